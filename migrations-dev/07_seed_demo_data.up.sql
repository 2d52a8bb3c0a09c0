-- A few users, tribes and posts, so that a new checkout has something to show.  Only development
-- reads this directory (see migrator.toml); numbers are unique over both.
--
-- Keys and times are literal: every database gets the same rows, and down deletes these rows only.
-- example.com is reserved (RFC 2606), so the addresses belong to no one.

insert into users (id, email, name, created_at)
values
    -- Names as people type them: the down script of 10_split_user_name must restore them exactly.
    ('a0000000-0000-4000-8000-000000000001', 'ada@example.com', 'Ada Lovelace',
     '2026-01-05 09:00:00+00'),
    ('a0000000-0000-4000-8000-000000000002', 'plato@example.com', 'Plato',
     '2026-01-06 10:30:00+00'),
    ('a0000000-0000-4000-8000-000000000003', 'gabriel@example.com', 'Gabriel García Márquez',
     '2026-01-07 08:15:00+00'),
    ('a0000000-0000-4000-8000-000000000004', 'jean@example.com', 'Jean  Bartik',
     '2026-01-08 19:45:00+00'),
    ('a0000000-0000-4000-8000-000000000005', 'grace@example.com', ' Grace Hopper ',
     '2026-01-09 12:00:00+00');

insert into user_roles (user_id, role_name, granted_at)
values
    ('a0000000-0000-4000-8000-000000000001', 'admin', '2026-01-05 09:01:00+00'),
    ('a0000000-0000-4000-8000-000000000005', 'moderator', '2026-01-09 12:05:00+00');

insert into tribes (id, slug, name, founder_id, created_at)
values
    ('b0000000-0000-4000-8000-000000000001', 'first-programmers', 'First Programmers',
     'a0000000-0000-4000-8000-000000000001', '2026-01-10 09:00:00+00'),
    ('b0000000-0000-4000-8000-000000000002', 'story-tellers', 'Story Tellers',
     'a0000000-0000-4000-8000-000000000003', '2026-01-11 09:00:00+00');

insert into memberships (tribe_id, user_id, standing, joined_at)
values
    ('b0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000001', 'chief',
     '2026-01-10 09:00:00+00'),
    ('b0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000004', 'member',
     '2026-01-10 11:00:00+00'),
    ('b0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000005', 'moderator',
     '2026-01-10 12:00:00+00'),
    ('b0000000-0000-4000-8000-000000000002', 'a0000000-0000-4000-8000-000000000002', 'member',
     '2026-01-11 10:00:00+00'),
    ('b0000000-0000-4000-8000-000000000002', 'a0000000-0000-4000-8000-000000000003', 'chief',
     '2026-01-11 09:00:00+00');

insert into posts (id, tribe_id, author_id, body, created_at)
values
    ('c0000000-0000-4000-8000-000000000001', 'b0000000-0000-4000-8000-000000000001',
     'a0000000-0000-4000-8000-000000000001', 'Note G is done; it''s the Bernoulli numbers.',
     '2026-01-12 09:00:00+00'),
    ('c0000000-0000-4000-8000-000000000002', 'b0000000-0000-4000-8000-000000000001',
     'a0000000-0000-4000-8000-000000000005', 'Found a moth in relay 70; taped it into the log.',
     '2026-01-12 15:45:00+00'),
    ('c0000000-0000-4000-8000-000000000003', 'b0000000-0000-4000-8000-000000000002',
     'a0000000-0000-4000-8000-000000000003', 'Many years later …',
     '2026-01-13 20:00:00+00');
