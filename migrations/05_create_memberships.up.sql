-- The members of tribes, and their standing.

create table memberships (
    tribe_id   uuid        not null,
    user_id    uuid        not null,

    -- text with a check, not an enum: a check can be replaced in one transaction, but a value
    -- cannot be removed from an enum, so no down script could undo adding one.
    standing   text        not null default 'member',
    joined_at  timestamptz not null default now(),

    constraint memberships_pkey primary key (tribe_id, user_id),
    constraint memberships_standing_known check (standing in ('member', 'moderator', 'chief')),

    constraint memberships_tribe_id_fkey foreign key (tribe_id)
        references tribes (id)
        on delete cascade,
    constraint memberships_user_id_fkey foreign key (user_id)
        references users (id)
        on delete cascade
);

-- The primary key answers "who is in this tribe?".  This index answers "which tribes is this user
-- in, newest first?" without a sort, and serves the foreign key on user_id, its first column.
create index memberships_user_id_joined_at_idx
    on memberships (user_id, joined_at desc);
