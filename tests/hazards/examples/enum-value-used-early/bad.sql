alter type mood add value 'calm';
insert into people values ('calm');
