create index totals_amount on totals (amount);
