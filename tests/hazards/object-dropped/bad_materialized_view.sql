drop materialized view totals;
