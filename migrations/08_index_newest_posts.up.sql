-- The start page: the newest posts of all tribes.  The index of a tribe's page cannot serve it,
-- since that one begins with tribe_id.
--
-- concurrently, because posts has rows and writers by this time: a plain create index takes SHARE
-- and stops every write to posts until it is built.  This way takes longer, and nobody waits.
-- PostgreSQL refuses it inside a transaction.  A file with this single statement is run outside
-- one without being told to: there is nothing that it would have to be atomic with.
--
-- No "if not exists": a build that was broken off leaves an invalid index of this name, and that
-- clause would call it a success.

create index concurrently posts_created_at_id_idx
    on posts (created_at desc, id desc);
