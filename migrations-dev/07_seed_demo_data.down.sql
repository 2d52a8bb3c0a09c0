-- Delete the rows of up, by key, in the order that the foreign keys require.
--
-- If real users wrote posts in a demo tribe, or demo users wrote other posts, this fails on
-- posts_tribe_id_fkey or posts_author_id_fkey and changes nothing, rather than delete those posts.
-- LOSES DATA: memberships of real users in a demo tribe, and roles or memberships that demo users
-- got after up (on delete cascade).

delete from posts
where id in (
    'c0000000-0000-4000-8000-000000000001',
    'c0000000-0000-4000-8000-000000000002',
    'c0000000-0000-4000-8000-000000000003'
);

delete from tribes
where id in (
    'b0000000-0000-4000-8000-000000000001',
    'b0000000-0000-4000-8000-000000000002'
);

delete from users
where id in (
    'a0000000-0000-4000-8000-000000000001',
    'a0000000-0000-4000-8000-000000000002',
    'a0000000-0000-4000-8000-000000000003',
    'a0000000-0000-4000-8000-000000000004',
    'a0000000-0000-4000-8000-000000000005'
);
