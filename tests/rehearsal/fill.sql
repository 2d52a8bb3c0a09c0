-- The tables of a database, partitions left out, as JSON: what a row of each must satisfy.
with recursive bases as (
    -- A domain is over a type, or over another domain.
    select t.oid as type, t.oid as base, -1 as modifier, array[]::oid[] as domains
    from pg_type t
    where t.typtype <> 'd'
    union all
    select d.oid, b.base, greatest(b.modifier, d.typtypmod), b.domains || d.oid
    from pg_type d
    join bases b on b.type = d.typbasetype
    where d.typtype = 'd'
),
tables as (
    select c.oid, c.relname, c.relkind, n.nspname, format('%I.%I', n.nspname, c.relname) as name
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p')
      and not c.relispartition
      and c.relpersistence <> 't'
      and n.nspname !~ '^pg_'
      and n.nspname <> 'information_schema'
)
select coalesce(json_agg(json_build_object(
    'name', t.name,
    'alias', quote_ident(t.relname),
    'columns', (
        select coalesce(json_agg(json_build_object(
            'number', a.attnum,
            'name', quote_ident(a.attname),
            'type', format_type(b.base, greatest(a.atttypmod, b.modifier)),
            'base', case when e.oid is null then p.typname else e.typname end,
            'size', greatest(a.atttypmod, b.modifier),
            'is_array', e.oid is not null,
            'labels', array(
                select enumlabel
                from pg_enum
                where enumtypid = coalesce(e.oid, p.oid)
                order by enumsortorder
            ),
            'not_null', a.attnotnull or exists (
                select from pg_type d where d.oid = any (b.domains) and d.typnotnull
            ),
            'default', pg_get_expr(d.adbin, d.adrelid),
            'sequence', case when a.attidentity <> '' then
                pg_get_serial_sequence(t.name, a.attname)
            end,
            'is_generated', a.attgenerated <> '',
            'checks', array(
                select pg_get_expr(c.conbin, 0)
                from pg_constraint c
                where c.contypid = any (b.domains) and c.contype = 'c'
            )
        ) order by a.attnum), '[]')
        from pg_attribute a
        join bases b on b.type = a.atttypid
        join pg_type p on p.oid = b.base
        left join pg_type e on e.oid = p.typelem and p.typcategory = 'A'
        left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
    ),
    'checks', (
        select coalesce(json_agg(json_build_object(
            'columns', c.conkey, 'condition', pg_get_expr(c.conbin, c.conrelid)
        ) order by c.conname), '[]')
        from pg_constraint c
        where c.conrelid = t.oid and c.contype = 'c'
    ),
    'bounds', array(
        select pg_get_partition_constraintdef(relid)
        from pg_partition_tree(t.oid)
        where isleaf and relid <> t.oid
    ),
    'is_partitioned', t.relkind = 'p',
    'partition_key', array(
        select unnest(p.partattrs::int2[]) from pg_partitioned_table p where p.partrelid = t.oid
    ),
    'unique', (
        select coalesce(json_agg(json_build_object(
            'columns', i.indkey::int2[], 'is_deferrable', not i.indimmediate
        )), '[]')
        from pg_index i
        where i.indrelid = t.oid and (i.indisunique or i.indisexclusion)
    ),
    'keys', (
        select coalesce(json_agg(json_build_object(
            'columns', c.conkey,
            'is_full', c.confmatchtype = 'f',
            'other', (select name from tables o where o.oid = c.confrelid),
            'referenced', array(
                select quote_ident(attname)
                from unnest(c.confkey) with ordinality as k (number, position)
                join pg_attribute on attrelid = c.confrelid and attnum = k.number
                order by k.position
            )
        ) order by cardinality(c.conkey) desc, c.conname), '[]')
        from pg_constraint c
        where c.conrelid = t.oid and c.contype = 'f'
    )
) order by t.name), '[]')
from tables t
