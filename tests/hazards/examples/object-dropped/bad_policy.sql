drop policy p on orders;
