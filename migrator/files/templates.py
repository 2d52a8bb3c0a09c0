"""The templates of new files; `version` is that of the file."""

UP = """\
-- migrator: draft (write the SQL, then remove this line: the file is refused while it is here)
--
-- {version}: explain here why this change is made.
--
-- The file runs in one transaction, together with its history record.  It holds its locks
-- until the end, so keep it short.  Use separate migrations to fill a new column, to validate
-- a constraint, and to build a large index with CREATE INDEX CONCURRENTLY.

"""
DOWN = """\
-- migrator: draft (write the SQL, then remove this line: the file is refused while it is here)
--
-- Revert {version}: restore the schema as it was before, and say here which data are lost.
-- If it cannot be reverted, delete this file: the migration is then irreversible.

"""
REPEATABLE = """\
-- migrator: draft (write the SQL, then remove this line: the file is refused while it is here)
--
-- {version}: a view, function, policy or grant, whose newest text is what counts.
--
-- The file runs in one transaction after the numbered migrations, and again whenever its text
-- has changed: write CREATE OR REPLACE, or DROP … IF EXISTS before a CREATE.

"""
