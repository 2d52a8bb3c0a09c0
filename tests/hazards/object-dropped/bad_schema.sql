drop schema attic;
