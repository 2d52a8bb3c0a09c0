create table copies (like orders);
insert into copies select * from orders;
