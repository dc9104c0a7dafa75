-- How many log lines of an attempt are recorded: a post that is repeated adds nothing.
ALTER TABLE attempts ADD COLUMN lines int NOT NULL DEFAULT 0;
