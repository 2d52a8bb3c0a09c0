-- migrator: statement-timeout 15min

-- Split name into first_name and last_name, at the first space, and keep everything else:
--
--   'Ada Lovelace'            →  'Ada'      'Lovelace'
--   'Gabriel García Márquez'  →  'Gabriel'  'García Márquez'
--   'Plato'                   →  'Plato'    null            without a space there is no last name
--   'Jean  Bartik'            →  'Jean'     ' Bartik'       one of the two spaces is kept
--   ' Grace Hopper '          →  ''         'Grace Hopper '
--   'Cher '                   →  'Cher'     ''              '', not null: there was a space
--
-- Nothing is lost: only that space is removed, and down knows where it was.  Trimming the names
-- could not be undone, so it would be a migration of its own.
--
-- Locks: ROW EXCLUSIVE on users, and each row that is changed.  Reads do not wait; writes to these
-- rows wait until the commit.  The columns were added in an earlier file, because the ACCESS
-- EXCLUSIVE for that would be held during this update.  400,000 rows take about 3 seconds.  A table
-- a hundred times that size would be updated in batches: 15 shows how.

update users
set first_name = split_part(name, ' ', 1),
    last_name = case
        when strpos(name, ' ') > 0
        then substr(name, strpos(name, ' ') + 1)
    end,
    name = null
where name is not null;
