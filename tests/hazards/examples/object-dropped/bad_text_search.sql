drop text search configuration words;
