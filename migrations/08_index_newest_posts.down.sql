-- A plain drop index takes ACCESS EXCLUSIVE on posts, which blocks reads as well.

drop index concurrently posts_created_at_id_idx;
