-- Tribes with their size, for the page that lists them.  A view has no rows to lose, and only its
-- newest text counts: it is edited here, and the next up applies it.

create or replace view tribe_overview as
select
    tribes.id,
    tribes.slug,
    tribes.name,
    (select count(*) from memberships where memberships.tribe_id = tribes.id) as members,
    (select max(created_at) from posts where posts.tribe_id = tribes.id) as newest_post_at
from tribes;
