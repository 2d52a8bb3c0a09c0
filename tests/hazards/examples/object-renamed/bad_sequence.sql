alter sequence numbers rename to counts;
