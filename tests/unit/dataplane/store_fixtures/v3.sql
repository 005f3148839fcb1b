-- A database of schema version 3: two tenants alike, as `sqlite3 store.db .dump` gives it.
PRAGMA application_id = 1852861550;
PRAGMA user_version = 3;
CREATE TABLE objects (kind TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID;
INSERT INTO objects VALUES('instances','00000000-0000-4000-8000-000000000001','{"id":"00000000-0000-4000-8000-000000000001","project_id":"blue-project","user_data":"#!/bin/sh\n"}');
INSERT INTO objects VALUES('networks','blue','{"id":"blue","vni":1001,"mtu":1450,"subnets":[{"id":"blue-subnet","cidr":"10.0.0.0/24","gateway_ip":"10.0.0.1"}]}');
INSERT INTO objects VALUES('networks','green','{"id":"green","subnets":[{"id":"green-subnet","cidr":"10.0.0.0/24"}]}');
INSERT INTO objects VALUES('ports','p1','{"id":"p1","network_id":"blue","mac_address":"fa:16:3e:00:00:05","fixed_ips":[{"subnet_id":"blue-subnet","ip_address":"10.0.0.5"}],"device_id":"00000000-0000-4000-8000-000000000001"}');
INSERT INTO objects VALUES('ports','p2','{"id":"p2","network_id":"green","mac_address":"fa:16:3e:00:00:05","fixed_ips":[{"subnet_id":"green-subnet","ip_address":"10.0.0.5"}]}');
CREATE TABLE head (only INTEGER PRIMARY KEY CHECK (only = 1), position INTEGER NOT NULL);
INSERT INTO head VALUES(1,42);
CREATE TABLE leases (port_id TEXT NOT NULL, address TEXT NOT NULL, body TEXT NOT NULL, UNIQUE (port_id, address));
INSERT INTO leases VALUES('p1','10.0.0.5','{"network_id":"blue","port_id":"p1","mac":"fa:16:3e:00:00:05","address":"10.0.0.5","state":"offered","since":0.5,"updated":0.5}');
CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE passwords (instance TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
