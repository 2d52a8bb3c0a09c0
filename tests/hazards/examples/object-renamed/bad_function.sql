alter function twice(integer) rename to double;
