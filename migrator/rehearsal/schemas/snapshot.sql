-- The schema of a database, one row for each object: kind, name, definition, identity, parents
-- and position, as in `schema.SchemaObject`, and the OID of the relation that it is on, or 0.
-- For PostgreSQL 13 to 18.
--
-- `schema` makes two queries of it.  The one for some relations has a condition in place of
-- {chosen}, and lacks what is between the lines "-- not on a relation" and "-- end".
--
-- Each query of `object` also returns class, oid and sub, which identify the object as in
-- pg_depend, and owner, acl and acl_type, the last as acldefault() takes it.

-- members of extensions
with member as materialized (
    select classid, objid
    from pg_depend
    where refclassid = 'pg_extension'::regclass
      and deptype = 'e'
),
-- not on a relation
-- what CREATE TYPE … AS RANGE creates with the type
range_member as materialized (
    select classid, objid
    from pg_depend
    where refclassid = 'pg_type'::regclass
      and deptype = 'i'
      and classid in ('pg_proc'::regclass, 'pg_cast'::regclass)
),
-- end
space as materialized (
    select oid, nspname, quote_ident(nspname) as name, nspowner, nspacl
    from pg_namespace
    where nspname !~ '^pg_'
      and nspname <> 'information_schema'
),
every_relation as not materialized (
    select c.oid, c.relname, c.relkind, c.relam, c.relpersistence, c.relispartition,
           c.reloptions, c.reltoastrelid, c.relrowsecurity, c.relforcerowsecurity,
           c.relreplident, c.reloftype, c.relpartbound, c.relowner, c.relacl,
           k.kind,
           s.name || '.' || quote_ident(c.relname) as name,
           k.kind || ' ' || s.name || '.' || quote_ident(c.relname) as label
    from pg_class c
    join space s on s.oid = c.relnamespace
    join (
        values ('r'::"char", 'table'), ('p', 'table'), ('f', 'foreign table'), ('v', 'view'),
               ('m', 'materialized view'), ('S', 'sequence')
    ) as k (relkind, kind) on k.relkind = c.relkind
    where not (
        s.nspname = coalesce(%(history)s, '')
        and c.relname in (
            'migration_versions', 'migration_repeatables', 'migration_log', 'migration_log_id_seq'
        )
    )
      and (c.oid, 'pg_class'::regclass) not in (select objid, classid from member)
),
relation as materialized (
    select *
    from every_relation c
    where {chosen}
),
heritage as materialized (
    select i.inhrelid as oid, array_agg(r.name order by i.inhseqno) as names
    from pg_inherits i
    join every_relation r on r.oid = i.inhparent
    where i.inhrelid in (select oid from relation)
    group by i.inhrelid
),
owned as materialized (
    select d.objid as oid, r.name || '.' || quote_ident(a.attname) as name
    from pg_depend d
    join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
    join every_relation r on r.oid = d.refobjid
    where d.classid = 'pg_class'::regclass
      and d.refclassid = 'pg_class'::regclass
      and d.refobjsubid > 0
      and d.deptype in ('a', 'i')
      and d.objid in (select oid from relation where relkind = 'S')
),
object as materialized (

-- tables

select r.kind,
       'pg_class'::regclass::oid as class,
       r.oid,
       0 as sub,
       r.name,
       '{}'::text[] as parents,
       0 as position,
       -- partitioned and foreign tables have no rows of their own
       case when r.relkind = 'r' then r.oid::text else '' end as identity,
       concat_ws(
           ' ',
           case when r.relpersistence = 'u' then 'unlogged' end,
           'of ' || format_type(nullif(r.reloftype, 0), null),
           case when r.relkind = 'p' then 'partition by ' || pg_get_partkeydef(r.oid) end,
           case when r.relispartition then 'partition of ' else 'inherits ' end
               || array_to_string(h.names, ', '),
           pg_get_expr(r.relpartbound, r.oid),
           case when am.amname <> 'heap' then 'using ' || quote_ident(am.amname) end,
           'with (' || array_to_string(r.reloptions, ', ') || ')',
           'toast (' || array_to_string(t.reloptions, ', ') || ')',
           case when r.relrowsecurity then 'row level security' end,
           case when r.relforcerowsecurity then 'forced row level security' end,
           case r.relreplident
               when 'n' then 'replica identity nothing'
               when 'f' then 'replica identity full'
           end,
           'server ' || quote_ident(f.srvname),
           'options (' || array_to_string(ft.ftoptions, ', ') || ')'
       ) as definition,
       r.relowner as owner,
       r.relacl as acl,
       'r'::"char" as acl_type,
       r.oid as relation
from relation r
left join heritage h on h.oid = r.oid
left join pg_am am on am.oid = r.relam
left join pg_class t on t.oid = r.reltoastrelid and t.reloptions is not null
left join pg_foreign_table ft on ft.ftrelid = r.oid
left join pg_foreign_server f on f.oid = ft.ftserver
where r.relkind in ('r', 'p', 'f')

-- views

union all
select r.kind, 'pg_class'::regclass, r.oid, 0, r.name, '{}', 0,
       case when r.relkind = 'm' then r.oid::text else '' end,
       concat_ws(
           E'\n',
           case when am.amname <> 'heap' then 'using ' || quote_ident(am.amname) end,
           'with (' || array_to_string(r.reloptions, ', ') || ')',
           pg_get_viewdef(r.oid)
       ),
       r.relowner, r.relacl, 'r', r.oid
from relation r
left join pg_am am on am.oid = r.relam
where r.relkind in ('v', 'm')

-- sequences

union all
select r.kind, 'pg_class'::regclass, r.oid, 0, r.name, array_remove(array['column ' || o.name], null), 0,
       r.oid::text,
       concat_ws(
           ' ',
           case when r.relpersistence = 'u' then 'unlogged' end,
           'as ' || format_type(s.seqtypid, null),
           'start ' || s.seqstart,
           'increment ' || s.seqincrement,
           'from ' || s.seqmin,
           'to ' || s.seqmax,
           'cache ' || s.seqcache,
           case when s.seqcycle then 'cycle' end,
           'owned by ' || o.name
       ),
       r.relowner, r.relacl, 's', r.oid
from relation r
join pg_sequence s on s.seqrelid = r.oid
left join owned o on o.oid = r.oid

-- columns

union all
select 'column', 'pg_class'::regclass, r.oid, a.attnum, r.name || '.' || quote_ident(a.attname),
       array[r.label] || case when a.attinhcount > 0 then array(
           select 'column ' || n || '.' || quote_ident(a.attname) from unnest(h.names) as u (n)
       ) end,
       a.attnum,
       case
           when a.attgenerated <> '' then ''
           when r.relkind in ('r', 'm') then r.oid || '.' || a.attnum
           -- a partition keeps its rows when it is attached to another parent
           when r.relkind = 'p' then a.attnum::text
           else ''
       end,
       concat_ws(
           ' ',
           format_type(a.atttypid, a.atttypmod),
           case
               when a.attcollation <> t.typcollation
               then 'collate ' || nullif(a.attcollation, 0)::regcollation
           end,
           case when a.attnotnull then 'not null' end,
           case
               when n.conislocal and n.conname <> r.relname || '_' || a.attname || '_not_null'
               then 'constraint ' || quote_ident(n.conname)
           end,
           case when n.connoinherit then 'no inherit' end,
           case when not n.convalidated then 'not valid' end,
           case a.attidentity
               when 'a' then 'generated always as identity'
               when 'd' then 'generated by default as identity'
           end,
           case a.attgenerated
               when '' then 'default ' || pg_get_expr(d.adbin, d.adrelid)
               when 's' then 'generated always as (' || pg_get_expr(d.adbin, d.adrelid) || ') stored'
               else 'generated always as (' || pg_get_expr(d.adbin, d.adrelid) || ') virtual'
           end,
           case when a.attstorage <> t.typstorage then 'storage ' || a.attstorage::text end,
           'compression ' || nullif(a.compression, '')::text,
           'statistics ' || nullif(a.attstattarget, -1),
           -- pg_attver is internal: it changes by itself, and pg_dump leaves it out too.
           'with (' || (
               select nullif(string_agg(o, ', '), '')
               from unnest(a.attoptions) o
               where not starts_with(o, 'pg_attver=')
           ) || ')',
           'options (' || array_to_string(a.attfdwoptions, ', ') || ')',
           case when a.attinhcount > 0 and not a.attislocal then 'inherited' end
       ),
       null, a.attacl, 'c', r.oid
-- In 13, pg_attribute has no such column, and the name refers to `older`.
from (values (''::"char")) as older (attcompression)
cross join lateral (select *, attcompression as compression from pg_attribute) as a
join relation r on r.oid = a.attrelid
join pg_type t on t.oid = a.atttypid
left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
-- Since 18; before, NOT NULL is not a constraint of its own.
left join pg_constraint n
    on n.conrelid = a.attrelid and n.contype = 'n' and n.conkey[1] = a.attnum
left join heritage h on h.oid = a.attrelid
where a.attnum > 0
  and not a.attisdropped
  and r.relkind <> 'S'

-- constraints, without those that are only inherited

union all
select 'constraint', 'pg_constraint'::regclass, c.oid, 0, r.name || '.' || quote_ident(c.conname),
       array[r.label], 0, '',
       concat_ws(
           ' ',
           pg_get_constraintdef(c.oid),
           case when exists (
               select
               from pg_trigger
               where tgconstraint = c.oid
                 and tgisinternal
                 and tgenabled <> 'O'
           ) then '(its triggers are not in their default state)' end
       ),
       null, null, null, r.oid
from pg_constraint c
join relation r on r.oid = c.conrelid
where c.contype in ('c', 'f', 'p', 'u', 'x')
  and c.conislocal
  and c.conparentid = 0

-- indexes

union all
select 'index', 'pg_class'::regclass, i.indexrelid, 0, s.name || '.' || quote_ident(c.relname),
       array_remove(
           array[
               r.label,
               'constraint ' || r.name || '.' || quote_ident(k.conname),
               'index ' || ps.name || '.' || quote_ident(p.relname)
           ],
           null
       ),
       0, '',
       concat_ws(
           ' ',
           pg_get_indexdef(i.indexrelid),
           'attached to ' || ps.name || '.' || quote_ident(p.relname),
           case when not i.indisvalid then 'invalid' end,
           case when i.indisclustered then 'cluster' end,
           case when i.indisreplident then 'replica identity' end,
           case when i.indexprs is not null then (
               select 'statistics ' || string_agg(attnum || ': ' || attstattarget, ', ' order by attnum)
               from pg_attribute
               where attrelid = i.indexrelid
                 and attstattarget >= 0
           ) end
       ),
       null, null, null, r.oid
from pg_index i
join pg_class c on c.oid = i.indexrelid
join space s on s.oid = c.relnamespace
join relation r on r.oid = i.indrelid
left join pg_constraint k
    on k.conindid = i.indexrelid and k.conrelid = i.indrelid and k.contype in ('p', 'u', 'x')
left join pg_inherits h on h.inhrelid = i.indexrelid
left join pg_class p on p.oid = h.inhparent
left join space ps on ps.oid = p.relnamespace

-- triggers; a trigger that a partition inherits only if it is enabled differently

union all
select 'trigger', 'pg_trigger'::regclass, t.oid, 0, r.name || '.' || quote_ident(t.tgname),
       array[r.label], 0, '',
       concat_ws(
           ' ',
           pg_get_triggerdef(t.oid),
           case t.tgenabled
               when 'D' then 'disabled'
               when 'R' then 'enabled for replicas'
               when 'A' then 'enabled always'
           end
       ),
       null, null, null, r.oid
from pg_trigger t
join relation r on r.oid = t.tgrelid
left join pg_trigger p on p.oid = nullif(t.tgparentid, 0)
where case when t.tgparentid = 0 then not t.tgisinternal else t.tgenabled <> p.tgenabled end

-- rules

union all
select 'rule', 'pg_rewrite'::regclass, w.oid, 0, r.name || '.' || quote_ident(w.rulename),
       array[r.label], 0, '',
       concat_ws(
           ' ',
           pg_get_ruledef(w.oid),
           case w.ev_enabled
               when 'D' then 'disabled'
               when 'R' then 'enabled for replicas'
               when 'A' then 'enabled always'
           end
       ),
       null, null, null, r.oid
from pg_rewrite w
join relation r on r.oid = w.ev_class
where w.rulename <> '_RETURN'

-- policies

union all
select 'policy', 'pg_policy'::regclass, p.oid, 0, r.name || '.' || quote_ident(p.polname),
       array[r.label], 0, '',
       concat_ws(
           ' ',
           case when p.polpermissive then 'permissive' else 'restrictive' end,
           'for ' || case p.polcmd
               when 'r' then 'select'
               when 'a' then 'insert'
               when 'w' then 'update'
               when 'd' then 'delete'
               else 'all'
           end,
           'to ' || (
               select string_agg(
                   case when m = 0 then 'public' else quote_ident(pg_get_userbyid(m)) end, ', '
               )
               from unnest(p.polroles) as u (m)
           ),
           'using (' || pg_get_expr(p.polqual, p.polrelid) || ')',
           'with check (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')'
       ),
       null, null, null, r.oid
from pg_policy p
join relation r on r.oid = p.polrelid

-- extended statistics

union all
select 'statistics', 'pg_statistic_ext'::regclass, x.oid, 0,
       s.name || '.' || quote_ident(x.stxname),
       array[r.label], 0, '',
       concat_ws(' ', pg_get_statisticsobjdef(x.oid), 'target ' || nullif(x.stxstattarget, -1)),
       x.stxowner, null, null, r.oid
from pg_statistic_ext x
join space s on s.oid = x.stxnamespace
join relation r on r.oid = x.stxrelid

-- not on a relation
-- functions, procedures, aggregates

union all
select case p.prokind when 'a' then 'aggregate' when 'p' then 'procedure' else 'function' end,
       'pg_proc'::regclass, p.oid, 0,
       s.name || '.' || quote_ident(p.proname) || '(' || oidvectortypes(p.proargtypes) || ')',
       '{}', 0, '',
       case
           when p.prokind <> 'a' then rtrim(pg_get_functiondef(p.oid), E'\n')
           else (
               select to_jsonb(a) - '{aggfnoid,aggtranstype,aggmtranstype,aggsortop}'::text[]
                   || jsonb_build_object(
                       'result', pg_get_function_result(p.oid),
                       'parallel', p.proparallel,
                       'aggtranstype', format_type(a.aggtranstype, null),
                       'aggmtranstype', format_type(nullif(a.aggmtranstype, 0), null),
                       'aggsortop', nullif(a.aggsortop, 0)::regoperator
                   )
               from pg_aggregate a
               where a.aggfnoid = p.oid
           )::text
       end,
       p.proowner, p.proacl, 'f', 0
from pg_proc p
join space s on s.oid = p.pronamespace
where (p.oid, 'pg_proc'::regclass) not in (select objid, classid from member)
  and (p.oid, 'pg_proc'::regclass) not in (select objid, classid from range_member)

-- types and domains, without array types and row types of tables

union all
select case t.typtype when 'd' then 'domain' else 'type' end,
       'pg_type'::regclass, t.oid, 0, s.name || '.' || quote_ident(t.typname),
       '{}', 0, '',
       case t.typtype
           when 'e' then (
               select 'enum (' || string_agg(quote_literal(enumlabel), ', ' order by enumsortorder) || ')'
               from pg_enum
               where enumtypid = t.oid
           )
           when 'c' then (
               select 'composite (' || string_agg(
                   quote_ident(attname) || ' ' || format_type(atttypid, atttypmod)
                       || coalesce(' collate ' || nullif(attcollation, 0)::regcollation, ''),
                   ', ' order by attnum
               ) || ')'
               from pg_attribute
               where attrelid = t.typrelid
                 and attnum > 0
                 and not attisdropped
           )
           when 'd' then concat_ws(
               ' ',
               format_type(t.typbasetype, t.typtypmod),
               'collate ' || nullif(t.typcollation, 0)::regcollation,
               case when t.typnotnull then 'not null' end,
               'default ' || t.typdefault
           )
           when 'r' then (
               select concat_ws(
                   ' ',
                   'range',
                   format_type(g.rngsubtype, null),
                   o.opcname,
                   'collate ' || nullif(g.rngcollation, 0)::regcollation,
                   nullif(g.rngcanonical, 0)::regprocedure,
                   nullif(g.rngsubdiff, 0)::regprocedure,
                   -- since 14
                   format_type((to_jsonb(g) ->> 'rngmultitypid')::oid, null)
               )
               from pg_range g
               join pg_opclass o on o.oid = g.rngsubopc
               where g.rngtypid = t.oid
           )
           else 'base ' || (
               select jsonb_object_agg(key, value)::text
               from jsonb_each(to_jsonb(t))
               where key ~ '^typ(len|byval|category|ispreferred|delim|input|output|receive|send)$'
                  or key ~ '^typ(modin|modout|analyze|align|storage|default|subscript)$'
           )
       end,
       t.typowner, t.typacl, 'T', 0
from pg_type t
join space s on s.oid = t.typnamespace
left join pg_class c on c.oid = t.typrelid
where (t.typtype in ('e', 'd', 'r') or t.typtype = 'b' and t.typcategory <> 'A' or c.relkind = 'c')
  and (t.oid, 'pg_type'::regclass) not in (select objid, classid from member)
union all
select 'constraint', 'pg_constraint'::regclass, c.oid, 0,
       s.name || '.' || quote_ident(t.typname) || '.' || quote_ident(c.conname),
       array['domain ' || s.name || '.' || quote_ident(t.typname)], 0, '',
       pg_get_constraintdef(c.oid),
       null, null, null, 0
from pg_constraint c
join pg_type t on t.oid = c.contypid
join space s on s.oid = t.typnamespace
where c.contype = 'c'
  and (t.oid, 'pg_type'::regclass) not in (select objid, classid from member)

-- schemas and extensions

union all
select 'schema', 'pg_namespace'::regclass, s.oid, 0, s.name, '{}', 0, '', '', s.nspowner, s.nspacl, 'n',
       0
from space s
where (s.oid, 'pg_namespace'::regclass) not in (select objid, classid from member)
union all
select 'extension', 'pg_extension'::regclass, e.oid, 0, quote_ident(e.extname), '{}', 0, '',
       'schema ' || e.extnamespace::regnamespace || ' version ' || e.extversion,
       e.extowner, null, null, 0
from pg_extension e

-- subscriptions; ordinary roles may not read their OIDs in 13, and their connections in any version

union all
select 'subscription', 'pg_subscription'::regclass, 0, 0, quote_ident(s.subname), '{}', 0, '',
       concat_ws(
           ' ',
           case when s.subenabled then 'enabled' end,
           'publications ' || array_to_string(s.subpublications, ', ')
       ),
       s.subowner, null, null, 0
from pg_subscription s
where s.subdbid = (select oid from pg_database where datname = current_database())

-- rare objects, named by pg_identify_object() and described by their catalog row

union all
select case i.type when 'default acl' then 'default privileges' else i.type end,
       x.class, x.oid, 0, i.identity, '{}', 0, '', x.definition, x.owner, x.acl, x.acl_type, 0
from (
    select 'pg_cast'::regclass::oid as class,
           oid,
           (
               to_jsonb(c) - '{oid,castsource,casttarget,castfunc}'::text[]
               || jsonb_build_object('function', nullif(castfunc, 0)::regprocedure)
           )::text as definition,
           null::oid as owner,
           null::aclitem[] as acl,
           null::"char" as acl_type
    from pg_cast c
    union all
    select 'pg_operator'::regclass, oid,
           (
               to_jsonb(o) - '{oid,oprname,oprnamespace,oprowner,oprleft,oprright}'::text[]
               || jsonb_build_object(
                   'oprresult', format_type(oprresult, null),
                   'oprcom', nullif(oprcom, 0)::regoperator,
                   'oprnegate', nullif(oprnegate, 0)::regoperator
               )
           )::text,
           oprowner, null, null
    from pg_operator o
    where oid >= 16384
    union all
    select 'pg_opclass'::regclass, c.oid,
           concat_ws(
               ' ',
               case when c.opcdefault then 'default' end,
               format_type(c.opcintype, null),
               'storage ' || format_type(nullif(c.opckeytype, 0), null),
               'family ' || quote_ident(f.opfname)
           ),
           c.opcowner, null, null
    from pg_opclass c
    join pg_opfamily f on f.oid = c.opcfamily
    union all
    select 'pg_opfamily'::regclass, oid,
           concat_ws(
               '; ',
               (
                   select string_agg(
                       amopstrategy || ': ' || amopopr::regoperator, ', '
                       order by amopstrategy, amopopr::regoperator::text
                   )
                   from pg_amop
                   where amopfamily = f.oid
               ),
               (
                   select string_agg(
                       amprocnum || ': ' || amproc::regprocedure, ', '
                       order by amprocnum, amproc::regprocedure::text
                   )
                   from pg_amproc
                   where amprocfamily = f.oid
               )
           ),
           opfowner, null, null
    from pg_opfamily f
    where oid >= 16384
    union all
    select 'pg_collation'::regclass, oid,
           (to_jsonb(c) - '{oid,collname,collnamespace,collowner,collencoding,collversion}'::text[])::text,
           collowner, null, null
    from pg_collation c
    where oid >= 16384
    union all
    select 'pg_conversion'::regclass, oid,
           (to_jsonb(c) - '{oid,conname,connamespace,conowner}'::text[])::text,
           conowner, null, null
    from pg_conversion c
    where oid >= 16384
    union all
    select 'pg_ts_config'::regclass, c.oid,
           concat_ws(
               ' ',
               p.prsname,
               (
                   select string_agg(
                       maptokentype || ': ' || mapdict::regdictionary, ', '
                       order by maptokentype, mapseqno
                   )
                   from pg_ts_config_map
                   where mapcfg = c.oid
               )
           ),
           c.cfgowner, null, null
    from pg_ts_config c
    join pg_ts_parser p on p.oid = c.cfgparser
    where c.oid >= 16384
    union all
    select 'pg_ts_dict'::regclass, d.oid, concat_ws(' ', t.tmplname, d.dictinitoption),
           d.dictowner, null, null
    from pg_ts_dict d
    join pg_ts_template t on t.oid = d.dicttemplate
    union all
    select 'pg_ts_parser'::regclass, oid,
           (to_jsonb(p) - '{oid,prsname,prsnamespace}'::text[])::text,
           null, null, null
    from pg_ts_parser p
    union all
    select 'pg_ts_template'::regclass, oid,
           (to_jsonb(t) - '{oid,tmplname,tmplnamespace}'::text[])::text,
           null, null, null
    from pg_ts_template t
    union all
    select 'pg_foreign_data_wrapper'::regclass, oid,
           concat_ws(
               ' ',
               'handler ' || nullif(fdwhandler, 0)::regproc,
               'validator ' || nullif(fdwvalidator, 0)::regproc,
               'options (' || array_to_string(fdwoptions, ', ') || ')'
           ),
           fdwowner, fdwacl, 'F'
    from pg_foreign_data_wrapper
    union all
    select 'pg_foreign_server'::regclass, s.oid,
           concat_ws(
               ' ',
               quote_ident(w.fdwname),
               'type ' || s.srvtype,
               'version ' || s.srvversion,
               'options (' || array_to_string(s.srvoptions, ', ') || ')'
           ),
           s.srvowner, s.srvacl, 'S'
    from pg_foreign_server s
    join pg_foreign_data_wrapper w on w.oid = s.srvfdw
    union all
    -- without options, which may contain a password
    select 'pg_user_mapping'::regclass, umid, '', null, null, null
    from pg_user_mappings
    union all
    select 'pg_publication'::regclass, oid,
           (to_jsonb(p) - '{oid,pubname,pubowner}'::text[])::text,
           pubowner, null, null
    from pg_publication p
    union all
    select 'pg_publication_rel'::regclass, p.oid,
           concat_ws(
               ' ',
               (
                   select '(' || string_agg(quote_ident(attname), ', ' order by attnum) || ')'
                   from pg_attribute
                   where attrelid = p.prrelid
                     and attnum = any (p.columns)
               ),
               'where ' || pg_get_expr(p.condition, p.prrelid)
           ),
           null, null, null
    -- since 15; `older` as for columns
    from (values (null::pg_node_tree, null::int2vector)) as older (prqual, prattrs)
    cross join lateral (
        select oid, prrelid, prqual as condition, prattrs as columns from pg_publication_rel
    ) as p
    union all
    -- a catalog since 15, read from pg_depend, which every version has
    select distinct classid, objid, '', null::oid, null::aclitem[], null::"char"
    from pg_depend
    where classid = to_regclass('pg_publication_namespace')
    union all
    select 'pg_event_trigger'::regclass, oid,
           concat_ws(
               ' ',
               evtevent,
               evtfoid::regprocedure,
               'state ' || evtenabled::text,
               'tags (' || array_to_string(evttags, ', ') || ')'
           ),
           evtowner, null, null
    from pg_event_trigger
    union all
    select 'pg_language'::regclass, oid,
           concat_ws(
               ' ',
               case when lanpltrusted then 'trusted' end,
               'handler ' || nullif(lanplcallfoid, 0)::regprocedure,
               'inline ' || nullif(laninline, 0)::regprocedure,
               'validator ' || nullif(lanvalidator, 0)::regprocedure
           ),
           lanowner, lanacl, 'l'
    from pg_language
    union all
    select 'pg_transform'::regclass, oid, concat_ws(' ', trffromsql, trftosql), null, null, null
    from pg_transform
    union all
    select 'pg_am'::regclass, oid, concat_ws(' ', amtype, amhandler), null, null, null
    from pg_am
    union all
    -- those in one schema are added to those of the role
    select 'pg_default_acl'::regclass, oid, '', defaclrole, defaclacl,
           case
               when defaclnamespace <> 0 then null
               when defaclobjtype = 'S' then 's'
               else defaclobjtype
           end
    from pg_default_acl
) as x
cross join lateral pg_identify_object(x.class, x.oid, 0) as i
where x.oid >= 16384  -- FirstNormalObjectId: lower OIDs are the server's own objects
  and (i.schema is null or i.schema !~ '^pg_' and i.schema <> 'information_schema')
  and (x.oid, x.class) not in (select objid, classid from member)
  and (x.oid, x.class) not in (select objid, classid from range_member)
-- end
),
labelled as materialized (
    select *, kind || ' ' || name as label
    from object
)
select kind, name, coalesce(definition, ''), identity, parents, position, relation
from object
where kind <> 'default privileges'

-- comments and owners of all objects, and their privileges, one row for each grantee

union all
select 'comment', 'on ' || t.label, d.description, '', array[t.label], 0, t.relation
from labelled t
join pg_description d on d.classoid = t.class and d.objoid = t.oid and d.objsubid = t.sub
union all
select 'owner', 'of ' || t.label, pg_get_userbyid(t.owner)::text, '', array[t.label], 0, t.relation
from labelled t
where t.owner is not null
  and t.kind <> 'default privileges'
union all
select case when d.is_default then t.kind else 'privileges' end,
       'of ' || p.grantee || case when d.is_default then ' ' || t.name else ' on ' || t.label end,
       coalesce(p.granted, 'none'),
       '',
       case when d.is_default then '{}' else array[t.label] end,
       0,
       t.relation
from labelled t
cross join lateral (select t.kind = 'default privileges' as is_default) as d
cross join lateral (
    select g.grantee,
           string_agg(g.granted, '; ' order by g.granted) filter (where g.actual) as granted,
           string_agg(g.granted, '; ' order by g.granted) filter (where not g.actual) as usual
    from (
        select e.actual,
               case e.grantee
                   when 0 then 'public'
                   when t.owner then 'its owner'
                   else quote_ident(pg_get_userbyid(e.grantee))
               end as grantee,
               string_agg(lower(e.privilege_type), ', ' order by e.privilege_type)
                   || case when e.is_grantable then ' with grant option' else '' end as granted
        from (
            select true as actual, a.* from aclexplode(t.acl) as a
            union all
            select false, a.* from aclexplode(acldefault(t.acl_type, t.owner)) as a
        ) as e
        group by e.actual, e.grantee, e.is_grantable
    ) as g
    group by g.grantee
) as p
where t.acl is not null
  and p.granted is distinct from p.usual
