alter type place drop attribute town;
