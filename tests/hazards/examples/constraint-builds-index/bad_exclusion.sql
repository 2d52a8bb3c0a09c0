alter table plain add constraint apart exclude using gist (span with &&);
