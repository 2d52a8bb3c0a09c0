drop view states;
