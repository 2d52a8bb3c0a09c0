drop operator === (integer, integer);
