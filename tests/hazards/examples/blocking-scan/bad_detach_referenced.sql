alter table days detach partition days_1;
