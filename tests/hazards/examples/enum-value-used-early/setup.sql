create type mood as enum ('sad', 'happy');
create table people (mood mood);
