-- LOSES DATA: the posts.

drop table posts;
