-- What rows of tables must satisfy, as JSON: one object for each table, the domains, and the enums.
-- {is_wanted} chooses tables by pg_class, which is called `c`.
with
relations as (
    select c.oid, c.relname, c.relkind, c.relispartition, n.nspname
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p')
      and c.relpersistence <> 't'
      and c.oid >= 16384
      and n.nspname !~ '^pg_'
      and ({is_wanted})
),
-- A domain over a domain has the constraints of both.
domains as (
    select t.oid,
           t.typname,
           n.nspname,
           t.typbasetype,
           t.typtypmod,
           t.typnotnull
    from pg_type t
    join pg_namespace n on n.oid = t.typnamespace
    where t.typtype = 'd'
      and t.oid >= 16384
)
select json_build_object(
    'tables', (
        select json_agg(json_build_object(
            'oid', r.oid::bigint,
            'name', format('%I.%I', r.nspname, r.relname),
            'alias', quote_ident(r.relname),
            'kind', r.relkind,
            'bound', case when r.relispartition then pg_get_partition_constraintdef(r.oid) end,
            'parents', array(
                select inhparent::bigint
                from pg_inherits
                where inhrelid = r.oid
            ),
            'fills_on_update', exists (
                select
                from pg_trigger t
                where t.tgrelid = r.oid
                  and not t.tgisinternal
                  and t.tgenabled <> 'D'
                  and t.tgtype & 19 = 19
            ),
            'writes_elsewhere', exists (
                select
                from pg_trigger t
                where t.tgrelid = r.oid
                  and not t.tgisinternal
                  and t.tgenabled <> 'D'
                  and t.tgtype & 2 = 0
            ),
            'keeps_deleted', exists (
                select
                from pg_trigger t
                where t.tgrelid = r.oid
                  and not t.tgisinternal
                  and t.tgenabled <> 'D'
                  and t.tgtype & 10 = 10
            ) or exists (
                select
                from pg_rewrite w
                where w.ev_class = r.oid
                  and w.ev_type = '4'
            ),
            'columns', (
                select json_agg(json_build_object(
                    'number', a.attnum,
                    'name', quote_ident(a.attname),
                    'type', format_type(a.atttypid, a.atttypmod),
                    'base_type', format_type(a.atttypid, null),
                    'type_oid', a.atttypid::bigint,
                    'kind', t.typtype,
                    'modifier', a.atttypmod,
                    'not_null', a.attnotnull and not exists (
                        select
                        from pg_constraint k
                        where k.conrelid = r.oid
                          and k.contype = 'n'
                          and k.conkey = array[a.attnum]
                          and not k.convalidated
                    ),
                    'collation', a.attcollation::bigint,
                    'has_default', a.atthasdef,
                    'is_generated', a.attgenerated <> '',
                    'is_stored', a.attgenerated = 's',
                    'is_identity', a.attidentity <> '',
                    'expression', case when a.attgenerated <> '' then
                        pg_get_expr(d.adbin, d.adrelid)
                    end,
                    'missing', case when a.atthasmissing then
                        format(
                            '%L::%s',
                            -- The text of an array in an array would be read as one array.
                            (a.attmissingval::text::text[])[1],
                            format_type(a.atttypid, a.atttypmod)
                        )
                    end
                ) order by a.attnum)
                from pg_attribute a
                join pg_type t on t.oid = a.atttypid
                left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
                where a.attrelid = r.oid
                  and a.attnum > 0
                  and not a.attisdropped
            ),
            'constraints', (
                select json_agg(json_build_object(
                    'oid', k.oid::bigint,
                    'name', quote_ident(k.conname),
                    'kind', k.contype,
                    'is_valid', k.convalidated,
                    'columns', coalesce(k.conkey, '{}'),
                    'index', k.conindid::bigint,
                    'parent', k.conparentid::bigint,
                    'is_inherited', k.coninhcount > 0,
                    'is_local', k.conislocal,
                    'only_here', k.connoinherit,
                    'expression', case when k.contype = 'c' then
                        pg_get_expr(k.conbin, k.conrelid)
                    end,
                    'definition', pg_get_constraintdef(k.oid),
                    'references', k.confrelid::bigint,
                    'referenced', coalesce(k.confkey, '{}'),
                    'match', k.confmatchtype,
                    'on_delete', k.confdeltype,
                    'on_update', k.confupdtype,
                    'operators', array(
                        select format('operator(%I.%s)', n.nspname, o.oprname)
                        from unnest(coalesce(k.conpfeqop, k.conexclop)) with ordinality u (oid, at)
                        join pg_operator o on o.oid = u.oid
                        join pg_namespace n on n.oid = o.oprnamespace
                        order by u.at
                    )
                ) order by k.conname)
                from pg_constraint k
                where k.conrelid = r.oid
                  and k.contype in ('c', 'f', 'p', 'u', 'x', 'n')
            ),
            'indexes', (
                select json_agg(json_build_object(
                    'oid', i.indexrelid::bigint,
                    'name', quote_ident(c.relname),
                    'is_unique', i.indisunique,
                    'is_primary', i.indisprimary,
                    'is_valid', i.indisvalid,
                    'nulls_equal', coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false),
                    'parent', coalesce((
                        select inhparent::bigint
                        from pg_inherits
                        where inhrelid = i.indexrelid
                    ), 0),
                    'columns', array(
                        select distinct d.refobjsubid
                        from pg_depend d
                        where d.classid = 'pg_class'::regclass
                          and d.objid = i.indexrelid
                          and d.refclassid = 'pg_class'::regclass
                          and d.refobjid = i.indrelid
                          and d.refobjsubid > 0
                        union
                        select u from unnest(i.indkey::smallint[]) u where u > 0
                    ),
                    'keys', array(
                        select pg_get_indexdef(i.indexrelid, g, false)
                        from generate_series(1, i.indnkeyatts) g
                    ),
                    'collations', array(
                        select case
                            when k.oid in (0, coalesce(a.attcollation, 100)) then ''
                            else format(' collate %I.%I', n.nspname, l.collname)
                        end
                        from generate_series(0, i.indnkeyatts - 1) g
                        cross join lateral (select i.indcollation[g] as oid) k
                        left join pg_collation l on l.oid = k.oid
                        left join pg_namespace n on n.oid = l.collnamespace
                        left join pg_attribute a
                            on a.attrelid = i.indrelid
                            and a.attnum = i.indkey[g]
                            and a.attnum > 0
                        order by g
                    ),
                    -- An operator class can have an equality of its own.
                    'is_usual', (
                        select bool_and(o.opcdefault or o.oid < 16384)
                        from unnest(i.indclass::oid[]) u (oid)
                        join pg_opclass o on o.oid = u.oid
                    ),
                    'predicate', pg_get_expr(i.indpred, i.indrelid)
                ) order by c.relname)
                from pg_index i
                join pg_class c on c.oid = i.indexrelid
                where i.indrelid = r.oid
                  and (
                      i.indisunique
                      or i.indisexclusion
                      or i.indexprs is not null
                      or i.indpred is not null
                  )
            )
        ))
        from relations r
    ),
    'domains', (
        select json_agg(json_build_object(
            'oid', d.oid::bigint,
            'name', format('%I.%I', d.nspname, d.typname),
            'base', d.typbasetype::bigint,
            'base_type', format_type(d.typbasetype, d.typtypmod),
            'not_null', d.typnotnull,
            'constraints', (
                select json_agg(json_build_object(
                    'oid', k.oid::bigint,
                    'name', quote_ident(k.conname),
                    'is_valid', k.convalidated,
                    'expression', pg_get_expr(k.conbin, 0)
                ) order by k.conname)
                from pg_constraint k
                where k.contypid = d.oid
                  and k.contype = 'c'
            )
        ))
        from domains d
    ),
    'enums', (
        select json_agg(json_build_object('oid', t.oid::bigint, 'labels', array(
            select e.enumlabel
            from pg_enum e
            where e.enumtypid = t.oid
            order by e.enumsortorder
        )))
        from pg_type t
        where t.typtype = 'e'
          and t.oid >= 16384
    ),
    'next', pg_snapshot_xmax(pg_current_snapshot())::xid
)::text
