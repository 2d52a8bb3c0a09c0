alter table weeks detach partition weeks_1;
