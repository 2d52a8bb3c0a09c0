alter view states rename column state to status;
