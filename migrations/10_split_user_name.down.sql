-- migrator: statement-timeout 15min

-- Put the names together again: concat_ws writes the space between the parts, and leaves it out
-- where last_name is null.  Each name that up took apart comes back character for character.
--
-- Rows written or changed in between get the name that their parts make, so no change is lost.
-- What name cannot hold is where the border was: ('Mary Ann', 'Smith') becomes 'Mary Ann Smith',
-- and the next up would cut it behind 'Mary'.

update users
set name = concat_ws(' ', first_name, last_name),
    first_name = null,
    last_name = null
where first_name is not null;
