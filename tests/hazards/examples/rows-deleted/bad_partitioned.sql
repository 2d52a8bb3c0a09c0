delete from days;
