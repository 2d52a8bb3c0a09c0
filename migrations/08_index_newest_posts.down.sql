-- A plain drop index takes ACCESS EXCLUSIVE on posts, and with it stops reads too.

drop index concurrently posts_created_at_id_idx;
