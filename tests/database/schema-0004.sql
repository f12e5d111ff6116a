CREATE TABLE npas_bench_version (
	version_num VARCHAR(32) NOT NULL,
	CONSTRAINT npas_bench_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO npas_bench_version VALUES ('0004');
CREATE TABLE cells (
	identity VARCHAR(64) NOT NULL,
	identity_version INTEGER NOT NULL,
	canonical TEXT NOT NULL,
	task VARCHAR(200) NOT NULL,
	architecture VARCHAR(200) NOT NULL,
	method VARCHAR(200) NOT NULL,
	task_version INTEGER NOT NULL,
	method_version INTEGER NOT NULL,
	options JSON NOT NULL,
	budget BIGINT NOT NULL,
	budget_text VARCHAR(64) NOT NULL,
	"full" BIGINT NOT NULL,
	recipe JSON NOT NULL,
	recipe_name VARCHAR(200) NOT NULL,
	seed BIGINT NOT NULL,
	CONSTRAINT pk_cells PRIMARY KEY (identity)
);
CREATE INDEX ix_cells_board ON cells (task, architecture, budget, method);
CREATE INDEX ix_cells_task ON cells (task, task_version);
CREATE INDEX ix_cells_method ON cells (method, method_version);
CREATE TABLE drivers (
	id VARCHAR(16) NOT NULL,
	host VARCHAR(200) NOT NULL,
	pid BIGINT NOT NULL,
	born VARCHAR(64) NOT NULL,
	version VARCHAR(32) NOT NULL,
	code VARCHAR(16) NOT NULL,
	started TIMESTAMP_TYPE NOT NULL,
	heartbeat TIMESTAMP_TYPE NOT NULL,
	ended TIMESTAMP_TYPE,
	CONSTRAINT pk_drivers PRIMARY KEY (id)
);
CREATE TABLE runs (
	id SERIAL_OR_INTEGER NOT NULL,
	identity VARCHAR(64) NOT NULL,
	state VARCHAR(16) NOT NULL,
	attempt INTEGER NOT NULL,
	token VARCHAR(32),
	grid TEXT,
	created TIMESTAMP_TYPE NOT NULL,
	started TIMESTAMP_TYPE,
	finished TIMESTAMP_TYPE,
	data_name VARCHAR(200) NOT NULL,
	data_label VARCHAR(200) NOT NULL,
	data_digest VARCHAR(64) NOT NULL,
	data_official BOOLEAN NOT NULL,
	device_class VARCHAR(32) NOT NULL,
	device VARCHAR(200) NOT NULL,
	host VARCHAR(200),
	versions JSON,
	"commit" VARCHAR(64),
	dirty BOOLEAN,
	parameters BIGINT,
	ledger JSON,
	sharing JSON,
	structure JSON,
	history JSON,
	seconds_per_step DOUBLE_TYPE,
	cost JSON,
	message TEXT,
	detail TEXT,
	smallest BIGINT,
	largest BIGINT,
	uid VARCHAR(32) NOT NULL,
	superseded VARCHAR(32),
	driver VARCHAR(16),
	epoch INTEGER,
	attempts JSON,
	board VARCHAR(16) NOT NULL,
	current BOOLEAN NOT NULL,
	origin VARCHAR(200),
	train_seconds DOUBLE_TYPE,
	peak_memory BIGINT,
	repeats VARCHAR(32),
	reported_epoch INTEGER,
	CONSTRAINT pk_runs PRIMARY KEY (id),
	CONSTRAINT fk_runs_driver FOREIGN KEY(driver) REFERENCES drivers (id),
	CONSTRAINT fk_runs_identity FOREIGN KEY(identity) REFERENCES cells (identity)
);
CREATE INDEX ix_runs_cell ON runs (identity, data_digest, device_class, state);
CREATE UNIQUE INDEX ix_runs_open ON runs (identity, data_digest, device_class) WHERE state NOT IN ('done', 'failed', 'unsupported') AND repeats IS NULL;
CREATE UNIQUE INDEX ix_runs_open_repetition ON runs (repeats) WHERE state NOT IN ('done', 'failed', 'unsupported') AND repeats IS NOT NULL;
CREATE INDEX ix_runs_repeats ON runs (repeats) WHERE repeats IS NOT NULL;
CREATE UNIQUE INDEX ix_runs_uid ON runs (uid);
CREATE INDEX ix_runs_grid ON runs (grid, state);
CREATE INDEX ix_runs_board ON runs (current, board, finished);
CREATE INDEX ix_runs_driver ON runs (driver, state);
CREATE TABLE metrics (
	run_id INTEGER NOT NULL,
	name VARCHAR(100) NOT NULL,
	value DOUBLE_TYPE NOT NULL,
	position INTEGER NOT NULL,
	unit VARCHAR(16) NOT NULL,
	higher_is_better BOOLEAN NOT NULL,
	CONSTRAINT pk_metrics PRIMARY KEY (run_id, name),
	CONSTRAINT fk_metrics_run_id FOREIGN KEY(run_id) REFERENCES runs (id)
);
CREATE TABLE subjects (
	id SERIAL_OR_INTEGER NOT NULL,
	run_id INTEGER NOT NULL,
	name VARCHAR(200) NOT NULL,
	parameters BIGINT,
	forward_flops BIGINT,
	latency_seconds DOUBLE_TYPE,
	detail JSON,
	CONSTRAINT pk_subjects PRIMARY KEY (id),
	CONSTRAINT fk_subjects_run_id FOREIGN KEY(run_id) REFERENCES runs (id)
);
CREATE UNIQUE INDEX ix_subjects_run ON subjects (run_id, name);
CREATE TABLE evaluations (
	run_id INTEGER NOT NULL,
	subject VARCHAR(200) NOT NULL,
	split VARCHAR(100) NOT NULL,
	metric VARCHAR(100) NOT NULL,
	value DOUBLE_TYPE NOT NULL,
	unit VARCHAR(16) NOT NULL,
	higher_is_better BOOLEAN NOT NULL,
	position INTEGER NOT NULL,
	CONSTRAINT pk_evaluations PRIMARY KEY (run_id, subject, split, metric),
	CONSTRAINT fk_evaluations_run_id FOREIGN KEY(run_id) REFERENCES runs (id)
);
CREATE TABLE weights (
	run_id INTEGER NOT NULL,
	kind VARCHAR(16) NOT NULL,
	file VARCHAR(200) NOT NULL,
	sha256 VARCHAR(64) NOT NULL,
	bytes BIGINT NOT NULL,
	CONSTRAINT pk_weights PRIMARY KEY (run_id, kind),
	CONSTRAINT fk_weights_run_id FOREIGN KEY(run_id) REFERENCES runs (id)
);
CREATE TABLE papers (
	position INTEGER NOT NULL,
	edition VARCHAR(16) NOT NULL,
	source VARCHAR(64) NOT NULL,
	"table" VARCHAR(64) NOT NULL,
	task VARCHAR(64) NOT NULL,
	dataset VARCHAR(64) NOT NULL,
	architecture VARCHAR(200) NOT NULL,
	method VARCHAR(64) NOT NULL,
	variant VARCHAR(200) NOT NULL,
	budget_percent DOUBLE_TYPE,
	params_millions DOUBLE_TYPE,
	metric VARCHAR(64) NOT NULL,
	value VARCHAR(32) NOT NULL,
	spread VARCHAR(32),
	runs INTEGER,
	higher_is_better BOOLEAN NOT NULL,
	note TEXT NOT NULL,
	method_here VARCHAR(64),
	options_here JSON,
	budget_here DOUBLE_TYPE,
	CONSTRAINT pk_papers PRIMARY KEY (position)
);
INSERT INTO cells VALUES ('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 1, '{"architecture":"wrn-10-1","budget":7756,"identity_version":1,"method":"ssn","method_version":1,"options":{},"recipe":{"batch_size":32,"epochs":1,"learning_rate":0.1},"seed":0,"task":"digits","task_version":1}', 'digits', 'wrn-10-1', 'ssn', 1, 1, '{}', 7756, '10%', 77562, '{"name": "default", "epochs": 1}', 'default', 0);
INSERT INTO drivers VALUES ('0123456789abcdef', 'node-1', 4242, '1234567', '0.1.0', 'abcdef0123456789', '2026-11-04 09:59:00.000000', '2026-11-04 10:00:30.000000', NULL);
INSERT INTO runs (identity, state, attempt, token, grid, created, started, finished, data_name, data_label, data_digest, data_official, device_class, device, parameters, seconds_per_step, cost, uid, board, current, train_seconds, peak_memory) VALUES ('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'done', 1, 't1', 'lowbudget', '2026-11-01 10:00:00.000001', '2026-11-01 10:00:01.000000', '2026-11-01 10:00:05.000000', 'digits', 'digits', 'd', TRUE, 'cpu', 'x86_64', 7756, 0.003, '{"train_seconds": 1.5, "peak_memory": 1000}', '11111111111111111111111111111111', 'bbbbbbbbbbbbbbbb', FALSE, 1.5, 1000);
INSERT INTO runs (identity, state, attempt, token, grid, created, started, finished, data_name, data_label, data_digest, data_official, device_class, device, parameters, seconds_per_step, cost, uid, board, current, train_seconds, peak_memory) VALUES ('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'done', 1, 't2', 'lowbudget', '2026-11-02 10:00:00.000001', '2026-11-02 10:00:01.000000', '2026-11-02 10:00:05.000000', 'digits', 'digits', 'd', TRUE, 'cpu', 'x86_64', 7756, 0.003, '{"train_seconds": 1.5, "peak_memory": 1000}', '22222222222222222222222222222222', 'bbbbbbbbbbbbbbbb', TRUE, 1.5, 1000);
INSERT INTO runs (identity, state, attempt, token, grid, created, started, data_name, data_label, data_digest, data_official, device_class, device, uid, board, current, driver, epoch, superseded) VALUES ('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'running', 1, 't4', 'lowbudget', '2026-11-04 10:00:00.000001', '2026-11-04 10:00:01.000000', 'digits', 'digits', 'd', TRUE, 'cpu', 'x86_64', '44444444444444444444444444444444', 'bbbbbbbbbbbbbbbb', FALSE, '0123456789abcdef', 3, 't3');
INSERT INTO metrics VALUES (1, 'error@1', 5.0, 0, '%', FALSE);
INSERT INTO metrics VALUES (2, 'error@1', 4.0, 0, '%', FALSE);
INSERT INTO papers VALUES (0, '1bc9dcd88b8f61aa', 'plummer2022npas', 'Table 1', 'retrieval', 'flickr30k', 'embnet', 'reduced', '', 6.9, NULL, 'mean-recall', '56.5', NULL, 5, TRUE, '', 'reduced', '{}', NULL);
INSERT INTO papers VALUES (1, '1bc9dcd88b8f61aa', 'plummer2022npas', 'Table 1', 'retrieval', 'flickr30k', 'embnet', 'reduced', '', 13.9, NULL, 'mean-recall', '70.2', NULL, 5, TRUE, '', 'reduced', '{}', NULL);
