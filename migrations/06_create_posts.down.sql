-- LOSES DATA: the posts.

-- The view of R__tribe_overview.sql reads the posts.  The next up makes it again.
drop view if exists tribe_overview;

drop table posts;
