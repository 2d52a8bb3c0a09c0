alter view states rename to all_states;
