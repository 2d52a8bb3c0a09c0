-- migrator: statement-timeout 15min

-- Move name into first_name and last_name.
--
-- The rule is cut at the first space, and keep all else as it is:
--
--   'Ada Lovelace'            →  'Ada'      'Lovelace'
--   'Gabriel García Márquez'  →  'Gabriel'  'García Márquez'
--   'Plato'                   →  'Plato'    null            no space, no last name
--   'Jean  Bartik'            →  'Jean'     ' Bartik'       of two spaces one is left
--   ' Grace Hopper '          →  ''         'Grace Hopper '
--   'Cher '                   →  'Cher'     ''              '' and null differ: a space was there
--
-- It loses nothing, whatever the name: only that one space goes, and down knows where it was.
-- Trimming would look better and could not be undone, so it is not done here in passing; it
-- would be a migration of its own, with a down that says what it cannot bring back.
--
-- Locks: ROW EXCLUSIVE on users and each row changed; reads go on, and a write to one of these
-- rows waits for the commit.  That is why the columns came in a file before this one: their
-- ACCESS EXCLUSIVE would be held throughout.  400,000 rows take about 3 seconds; a table a
-- hundred times that size should be done in batches.

update users
set first_name = split_part(name, ' ', 1),
    last_name = case
        when strpos(name, ' ') > 0
        then substr(name, strpos(name, ' ') + 1)
    end,
    name = null
where name is not null;
