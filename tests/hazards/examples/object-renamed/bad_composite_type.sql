alter type place rename to address;
