alter table notes validate constraint notes_user_fkey;
