alter table notes add constraint notes_pkey primary key using index notes_id;
