alter type place rename attribute town to city;
