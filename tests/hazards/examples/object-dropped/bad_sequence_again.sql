drop sequence numbers;
create sequence numbers;
