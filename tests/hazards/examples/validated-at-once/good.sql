alter table notes validate constraint positive;
