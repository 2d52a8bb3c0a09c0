drop sequence numbers;
