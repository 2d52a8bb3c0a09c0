-- For the start page: the newest posts of all tribes.  The index for a tribe's page cannot be used
-- here, because its first column is tribe_id.
--
-- concurrently, because posts is in use: a plain create index takes SHARE and blocks all writes to
-- posts until the index is built.  Concurrently takes longer, but blocks no reads or writes.
-- PostgreSQL refuses it inside a transaction.  A file with this single statement runs outside one
-- without an option, because there is nothing else that must be atomic with it.
--
-- No "if not exists": an interrupted build leaves an invalid index of this name, and with that
-- clause a second build would do nothing and succeed.

create index concurrently posts_created_at_id_idx
    on posts (created_at desc, id desc);
