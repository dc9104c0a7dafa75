-- Deliveries are claimed lane by lane, so that receivers of one account that hang do not hold up those of others.

-- The account of the run; a controller of before this writes none.
ALTER TABLE webhooks ADD COLUMN lane text COLLATE "C" NOT NULL DEFAULT '';
UPDATE webhooks SET lane = runs.account FROM runs WHERE runs.id = run_id AND state = 'pending' AND runs.account <> '';
CREATE INDEX webhooks_of_lane ON webhooks (lane, next_at) WHERE state = 'pending';
DROP INDEX webhooks_due;
