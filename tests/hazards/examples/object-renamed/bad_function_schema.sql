create schema attic;
alter function twice(integer) set schema attic;
