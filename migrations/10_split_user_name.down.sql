-- migrator: statement-timeout 15min
-- migrator: irreversible a name that was changed since may be split elsewhere by the next up

-- Join the names: concat_ws puts a space between the parts, unless last_name is null.  Every name
-- that up has split is restored exactly.
--
-- Rows that were inserted or changed after up are joined, too, so no change is lost.  But name
-- cannot say where it was split: ('Mary Ann', 'Smith') becomes 'Mary Ann Smith', and the next up
-- would split that after 'Mary'.

update users
set name = concat_ws(' ', first_name, last_name),
    first_name = null,
    last_name = null
where first_name is not null;
