-- from: 14
alter table events detach partition events_2024 concurrently;
