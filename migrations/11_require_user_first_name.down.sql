-- migrator: lock-timeout 1s

alter table users
    drop constraint users_first_name_present;
