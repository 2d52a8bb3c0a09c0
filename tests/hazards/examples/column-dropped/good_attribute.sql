alter type place add attribute country text;
