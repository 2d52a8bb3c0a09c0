drop type place;
