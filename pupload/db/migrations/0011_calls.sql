-- What of a request every answer about its run repeats: small, and apart from the bulk beside it.

ALTER TABLE run_plans ADD COLUMN echo text NOT NULL DEFAULT '{}';
