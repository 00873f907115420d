--
-- PostgreSQL database dump
--

\restrict BtLBaSYQgofWfzbJI7lrl2Z2HczbKDMj2t730sgtIpDtiQsCrWTFFOlZ5HK04U0

-- Dumped from database version 15.20 (Debian 15.20-0+deb12u1)
-- Dumped by pg_dump version 15.20 (Debian 15.20-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: pg_upkeep; Type: EXTENSION; Schema: -; Owner: -
--

CREATE EXTENSION IF NOT EXISTS pg_upkeep WITH SCHEMA pg_catalog;


--
-- Name: EXTENSION pg_upkeep; Type: COMMENT; Schema: -; Owner: 
--

COMMENT ON EXTENSION pg_upkeep IS 'batched backfill, soft delete, index analysis and query statistics, run inside the server';


--
-- Name: slug(text); Type: FUNCTION; Schema: public; Owner: keeper
--

CREATE FUNCTION public.slug(text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    AS $_$BEGIN RETURN pg_catalog.lower($1); END$_$;


ALTER FUNCTION public.slug(text) OWNER TO keeper;

--
-- Name: twice(integer); Type: FUNCTION; Schema: public; Owner: keeper
--

CREATE FUNCTION public.twice(n integer) RETURNS integer
    LANGUAGE plpgsql IMMUTABLE
    AS $$BEGIN RETURN 2 * n; END$$;


ALTER FUNCTION public.twice(n integer) OWNER TO keeper;

--
-- Name: _fill_01a22d7e64d671caa3fd56c961a4b602_values(integer); Type: FUNCTION; Schema: upkeep; Owner: keeper
--

CREATE FUNCTION upkeep._fill_01a22d7e64d671caa3fd56c961a4b602_values(integer, OUT integer, OUT boolean) RETURNS SETOF record
    LANGUAGE sql ROWS 1
    BEGIN ATOMIC
 SELECT public.twice(new.n) AS twice,
     true
    FROM ( SELECT $1 AS n) new;
END;


ALTER FUNCTION upkeep._fill_01a22d7e64d671caa3fd56c961a4b602_values(integer, OUT integer, OUT boolean) OWNER TO keeper;

--
-- Name: _fill_01a22d7e64d671caa3fd56c961a4b602(); Type: FUNCTION; Schema: upkeep; Owner: keeper
--

CREATE FUNCTION upkeep._fill_01a22d7e64d671caa3fd56c961a4b602() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET row_security TO 'on'
    SET standard_conforming_strings TO 'on'
    SET plan_cache_mode TO 'force_generic_plan'
    SET search_path TO '$user', 'public', 'pg_temp'
    SET "TimeZone" TO 'Etc/UTC'
    SET "DateStyle" TO 'ISO, MDY'
    SET "IntervalStyle" TO 'postgres'
    SET default_text_search_config TO 'pg_catalog.english'
    SET extra_float_digits TO '1'
    SET bytea_output TO 'hex'
    AS $$DECLARE filled record;
BEGIN
    -- A column that is gone, or called or typed otherwise by now, stops the job; it is no business of the writer's.
    IF EXISTS (
        SELECT FROM pg_catalog.pg_proc p, pg_catalog.unnest(ARRAY['n', 'double']::pg_catalog.text[]) WITH ORDINALITY c (name, i)
        WHERE p.proname OPERATOR(pg_catalog.=) '_fill_01a22d7e64d671caa3fd56c961a4b602_values'
          AND p.pronamespace OPERATOR(pg_catalog.=) 'upkeep'::pg_catalog.regnamespace
          AND NOT EXISTS (
              SELECT FROM pg_catalog.pg_attribute a
              WHERE a.attrelid OPERATOR(pg_catalog.=) TG_RELID AND NOT a.attisdropped
                AND a.attname OPERATOR(pg_catalog.=) c.name
                AND a.atttypid OPERATOR(pg_catalog.=) p.proallargtypes[c.i]))
    THEN
        RETURN NEW;
    END IF;
    SELECT * INTO filled FROM upkeep."_fill_01a22d7e64d671caa3fd56c961a4b602_values"(NEW."n");
    IF FOUND THEN
        NEW."double" := filled.column1;
    END IF;
    RETURN NEW;
END$$;


ALTER FUNCTION upkeep._fill_01a22d7e64d671caa3fd56c961a4b602() OWNER TO keeper;

SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: invoices; Type: TABLE; Schema: public; Owner: keeper
--

CREATE TABLE public.invoices (
    id integer NOT NULL,
    "user" integer
);


ALTER TABLE public.invoices OWNER TO keeper;

--
-- Name: lines; Type: TABLE; Schema: public; Owner: keeper
--

CREATE TABLE public.lines (
    id integer NOT NULL,
    n integer NOT NULL,
    double integer
)
WITH (fillfactor='10');


ALTER TABLE public.lines OWNER TO keeper;

--
-- Name: nights; Type: TABLE; Schema: public; Owner: keeper
--

CREATE TABLE public.nights (
    id integer NOT NULL,
    n integer
);


ALTER TABLE public.nights OWNER TO keeper;

--
-- Name: orders_all; Type: TABLE; Schema: public; Owner: keeper
--

CREATE TABLE public.orders_all (
    id integer NOT NULL,
    what text,
    gone boolean DEFAULT false NOT NULL,
    deleted_at timestamp with time zone,
    deleted_by text,
    deletion_id uuid
);


ALTER TABLE public.orders_all OWNER TO keeper;

--
-- Name: orders; Type: VIEW; Schema: public; Owner: keeper
--

CREATE VIEW public.orders WITH (security_invoker='true') AS
 SELECT t.id,
    t.what,
    t.gone,
    t.deleted_at,
    t.deleted_by,
    t.deletion_id
   FROM public.orders_all t
  WHERE (t.deleted_at IS NULL);


ALTER TABLE public.orders OWNER TO keeper;

--
-- Name: orders_deleted; Type: VIEW; Schema: public; Owner: keeper
--

CREATE VIEW public.orders_deleted WITH (security_invoker='true') AS
 SELECT t.id,
    t.what,
    t.gone,
    t.deleted_at,
    t.deleted_by,
    t.deletion_id
   FROM public.orders_all t
  WHERE (t.deleted_at IS NOT NULL);


ALTER TABLE public.orders_deleted OWNER TO keeper;

--
-- Name: products; Type: TABLE; Schema: public; Owner: keeper
--

CREATE TABLE public.products (
    id integer NOT NULL,
    sku text,
    name text NOT NULL,
    ean text,
    deleted_at timestamp with time zone,
    deleted_by text,
    deletion_id uuid
);


ALTER TABLE public.products OWNER TO keeper;

--
-- Name: products_deleted; Type: VIEW; Schema: public; Owner: keeper
--

CREATE VIEW public.products_deleted WITH (security_invoker='true') AS
 SELECT t.id,
    t.sku,
    t.name,
    t.ean,
    t.deleted_at,
    t.deleted_by,
    t.deletion_id
   FROM public.products t
  WHERE (t.deleted_at IS NOT NULL);


ALTER TABLE public.products_deleted OWNER TO keeper;

--
-- Name: products_live; Type: VIEW; Schema: public; Owner: keeper
--

CREATE VIEW public.products_live WITH (security_invoker='true') AS
 SELECT t.id,
    t.sku,
    t.name,
    t.ean,
    t.deleted_at,
    t.deleted_by,
    t.deletion_id
   FROM public.products t
  WHERE (t.deleted_at IS NULL);


ALTER TABLE public.products_live OWNER TO keeper;

--
-- Name: sessions; Type: TABLE; Schema: public; Owner: keeper
--

CREATE TABLE public.sessions (
    id integer NOT NULL,
    "user" integer NOT NULL,
    deleted_at timestamp with time zone,
    deleted_by text,
    deletion_id uuid
);


ALTER TABLE public.sessions OWNER TO keeper;

--
-- Name: users; Type: TABLE; Schema: public; Owner: keeper
--

CREATE TABLE public.users (
    id integer NOT NULL,
    email text NOT NULL,
    n integer,
    v integer,
    created_at timestamp with time zone,
    updated_at timestamp with time zone,
    created_by text,
    updated_by text,
    version integer DEFAULT 1 NOT NULL,
    deleted_at timestamp with time zone,
    deleted_by text,
    deletion_id uuid
);


ALTER TABLE public.users OWNER TO keeper;

--
-- Name: users_deleted; Type: VIEW; Schema: public; Owner: keeper
--

CREATE VIEW public.users_deleted WITH (security_invoker='true') AS
 SELECT t.id,
    t.email,
    t.n,
    t.v,
    t.created_at,
    t.updated_at,
    t.created_by,
    t.updated_by,
    t.version,
    t.deleted_at,
    t.deleted_by,
    t.deletion_id
   FROM public.users t
  WHERE (t.deleted_at IS NOT NULL);


ALTER TABLE public.users_deleted OWNER TO keeper;

--
-- Name: users_live; Type: VIEW; Schema: public; Owner: keeper
--

CREATE VIEW public.users_live WITH (security_invoker='true') AS
 SELECT t.id,
    t.email,
    t.n,
    t.v,
    t.created_at,
    t.updated_at,
    t.created_by,
    t.updated_by,
    t.version,
    t.deleted_at,
    t.deleted_by,
    t.deletion_id
   FROM public.users t
  WHERE (t.deleted_at IS NULL);


ALTER TABLE public.users_live OWNER TO keeper;

--
-- Data for Name: invoices; Type: TABLE DATA; Schema: public; Owner: keeper
--

COPY public.invoices (id, "user") FROM stdin;
6	6
7	7
8	8
9	9
10	10
11	11
12	12
13	13
14	14
15	15
16	16
17	17
18	18
19	19
20	20
21	21
22	22
23	23
24	24
25	25
26	26
27	27
28	28
29	29
30	30
31	31
32	32
33	33
34	34
35	35
36	36
37	37
38	38
39	39
40	40
41	41
42	42
43	43
44	44
45	45
46	46
47	47
48	48
49	49
50	50
51	51
52	52
53	53
54	54
55	55
56	56
57	57
58	58
59	59
60	60
61	61
62	62
63	63
64	64
65	65
66	66
67	67
68	68
69	69
70	70
71	71
72	72
73	73
74	74
75	75
76	76
77	77
78	78
79	79
80	80
81	81
82	82
83	83
84	84
85	85
86	86
87	87
88	88
89	89
90	90
91	91
92	92
93	93
94	94
95	95
96	96
97	97
98	98
99	99
100	100
1	\N
5	\N
2	\N
3	\N
4	4
\.


--
-- Data for Name: lines; Type: TABLE DATA; Schema: public; Owner: keeper
--

COPY public.lines (id, n, double) FROM stdin;
1	1	2
2	2	4
3	3	6
4	4	8
5	5	10
6	6	12
7	7	14
8	8	16
9	9	18
10	10	20
11	11	22
12	12	24
13	13	26
14	14	28
15	15	30
16	16	32
17	17	34
18	18	36
19	19	38
20	20	40
21	21	42
22	22	44
23	23	\N
24	24	\N
25	25	\N
26	26	\N
27	27	\N
28	28	\N
29	29	\N
30	30	\N
31	31	\N
32	32	\N
33	33	\N
34	34	\N
35	35	\N
36	36	\N
37	37	\N
38	38	\N
39	39	\N
40	40	\N
41	41	\N
42	42	\N
43	43	\N
44	44	\N
45	45	\N
46	46	\N
47	47	\N
48	48	\N
49	49	\N
50	50	\N
51	51	\N
52	52	\N
53	53	\N
54	54	\N
55	55	\N
56	56	\N
57	57	\N
58	58	\N
59	59	\N
60	60	\N
61	61	\N
62	62	\N
63	63	\N
64	64	\N
65	65	\N
66	66	\N
67	67	\N
68	68	\N
69	69	\N
70	70	\N
71	71	\N
72	72	\N
73	73	\N
74	74	\N
75	75	\N
76	76	\N
77	77	\N
78	78	\N
79	79	\N
80	80	\N
81	81	\N
82	82	\N
83	83	\N
84	84	\N
85	85	\N
86	86	\N
87	87	\N
88	88	\N
89	89	\N
90	90	\N
91	91	\N
92	92	\N
93	93	\N
94	94	\N
95	95	\N
96	96	\N
97	97	\N
98	98	\N
99	99	\N
100	100	\N
101	101	\N
102	102	\N
103	103	\N
104	104	\N
105	105	\N
106	106	\N
107	107	\N
108	108	\N
109	109	\N
110	110	\N
111	111	\N
112	112	\N
113	113	\N
114	114	\N
115	115	\N
116	116	\N
117	117	\N
118	118	\N
119	119	\N
120	120	\N
121	121	\N
122	122	\N
123	123	\N
124	124	\N
125	125	\N
126	126	\N
127	127	\N
128	128	\N
129	129	\N
130	130	\N
131	131	\N
132	132	\N
133	133	\N
134	134	\N
135	135	\N
136	136	\N
137	137	\N
138	138	\N
139	139	\N
140	140	\N
141	141	\N
142	142	\N
143	143	\N
144	144	\N
145	145	\N
146	146	\N
147	147	\N
148	148	\N
149	149	\N
150	150	\N
151	151	\N
152	152	\N
153	153	\N
154	154	\N
155	155	\N
156	156	\N
157	157	\N
158	158	\N
159	159	\N
160	160	\N
161	161	\N
162	162	\N
163	163	\N
164	164	\N
165	165	\N
166	166	\N
167	167	\N
168	168	\N
169	169	\N
170	170	\N
171	171	\N
172	172	\N
173	173	\N
174	174	\N
175	175	\N
176	176	\N
177	177	\N
178	178	\N
179	179	\N
180	180	\N
181	181	\N
182	182	\N
183	183	\N
184	184	\N
185	185	\N
186	186	\N
187	187	\N
188	188	\N
189	189	\N
190	190	\N
191	191	\N
192	192	\N
193	193	\N
194	194	\N
195	195	\N
196	196	\N
197	197	\N
198	198	\N
199	199	\N
200	200	\N
\.


--
-- Data for Name: nights; Type: TABLE DATA; Schema: public; Owner: keeper
--

COPY public.nights (id, n) FROM stdin;
1	\N
2	\N
3	\N
4	\N
5	\N
6	\N
7	\N
8	\N
9	\N
10	\N
11	\N
12	\N
13	\N
14	\N
15	\N
16	\N
17	\N
18	\N
19	\N
20	\N
21	\N
22	\N
23	\N
24	\N
25	\N
26	\N
27	\N
28	\N
29	\N
30	\N
31	\N
32	\N
33	\N
34	\N
35	\N
36	\N
37	\N
38	\N
39	\N
40	\N
41	\N
42	\N
43	\N
44	\N
45	\N
46	\N
47	\N
48	\N
49	\N
50	\N
\.


--
-- Data for Name: orders_all; Type: TABLE DATA; Schema: public; Owner: keeper
--

COPY public.orders_all (id, what, gone, deleted_at, deleted_by, deletion_id) FROM stdin;
1	order 1	f	\N	\N	\N
2	order 2	f	\N	\N	\N
3	order 3	f	\N	\N	\N
4	order 4	f	\N	\N	\N
5	order 5	f	\N	\N	\N
6	order 6	f	\N	\N	\N
9	order 9	f	\N	\N	\N
10	order 10	f	\N	\N	\N
11	order 11	f	\N	\N	\N
12	order 12	f	\N	\N	\N
13	order 13	f	\N	\N	\N
14	order 14	f	\N	\N	\N
15	order 15	f	\N	\N	\N
16	order 16	f	\N	\N	\N
17	order 17	f	\N	\N	\N
18	order 18	f	\N	\N	\N
19	order 19	f	\N	\N	\N
20	order 20	f	\N	\N	\N
21	order 21	f	\N	\N	\N
22	order 22	f	\N	\N	\N
23	order 23	f	\N	\N	\N
24	order 24	f	\N	\N	\N
25	order 25	f	\N	\N	\N
26	order 26	f	\N	\N	\N
27	order 27	f	\N	\N	\N
28	order 28	f	\N	\N	\N
29	order 29	f	\N	\N	\N
30	order 30	f	\N	\N	\N
31	order 31	f	\N	\N	\N
32	order 32	f	\N	\N	\N
33	order 33	f	\N	\N	\N
34	order 34	f	\N	\N	\N
35	order 35	f	\N	\N	\N
36	order 36	f	\N	\N	\N
37	order 37	f	\N	\N	\N
38	order 38	f	\N	\N	\N
39	order 39	f	\N	\N	\N
40	order 40	f	\N	\N	\N
41	order 41	f	\N	\N	\N
42	order 42	f	\N	\N	\N
43	order 43	f	\N	\N	\N
44	order 44	f	\N	\N	\N
45	order 45	f	\N	\N	\N
46	order 46	f	\N	\N	\N
47	order 47	f	\N	\N	\N
48	order 48	f	\N	\N	\N
49	order 49	f	\N	\N	\N
50	order 50	f	\N	\N	\N
7	order 7	t	2026-11-30 17:26:26.572847+00	keeper	01a22d7e-6015-7828-addb-70748d12c132
8	order 8	t	2026-11-30 17:26:26.582263+00	keeper	01a22d7e-601a-7902-90b7-b9606ba24269
\.


--
-- Data for Name: products; Type: TABLE DATA; Schema: public; Owner: keeper
--

COPY public.products (id, sku, name, ean, deleted_at, deleted_by, deletion_id) FROM stdin;
1	sku 1	Product 1	ean 1	\N	\N	\N
2	sku 2	Product 2	ean 2	\N	\N	\N
3	sku 3	Product 3	ean 3	\N	\N	\N
4	sku 4	Product 4	ean 4	\N	\N	\N
5	sku 5	Product 5	ean 5	\N	\N	\N
6	sku 6	Product 6	ean 6	\N	\N	\N
7	sku 7	Product 7	ean 7	\N	\N	\N
8	sku 8	Product 8	ean 8	\N	\N	\N
9	sku 9	Product 9	ean 9	\N	\N	\N
10	sku 10	Product 10	ean 10	\N	\N	\N
11	sku 11	Product 11	ean 11	\N	\N	\N
12	sku 12	Product 12	ean 12	\N	\N	\N
13	sku 13	Product 13	ean 13	\N	\N	\N
14	sku 14	Product 14	ean 14	\N	\N	\N
15	sku 15	Product 15	ean 15	\N	\N	\N
16	sku 16	Product 16	ean 16	\N	\N	\N
17	sku 17	Product 17	ean 17	\N	\N	\N
18	sku 18	Product 18	ean 18	\N	\N	\N
19	sku 19	Product 19	ean 19	\N	\N	\N
20	sku 20	Product 20	ean 20	\N	\N	\N
21	sku 21	Product 21	ean 21	\N	\N	\N
22	sku 22	Product 22	ean 22	\N	\N	\N
23	sku 23	Product 23	ean 23	\N	\N	\N
24	sku 24	Product 24	ean 24	\N	\N	\N
25	sku 25	Product 25	ean 25	\N	\N	\N
26	sku 26	Product 26	ean 26	\N	\N	\N
27	sku 27	Product 27	ean 27	\N	\N	\N
28	sku 28	Product 28	ean 28	\N	\N	\N
29	sku 29	Product 29	ean 29	\N	\N	\N
30	sku 30	Product 30	ean 30	\N	\N	\N
31	sku 31	Product 31	ean 31	\N	\N	\N
32	sku 32	Product 32	ean 32	\N	\N	\N
33	sku 33	Product 33	ean 33	\N	\N	\N
34	sku 34	Product 34	ean 34	\N	\N	\N
35	sku 35	Product 35	ean 35	\N	\N	\N
36	sku 36	Product 36	ean 36	\N	\N	\N
37	sku 37	Product 37	ean 37	\N	\N	\N
38	sku 38	Product 38	ean 38	\N	\N	\N
39	sku 39	Product 39	ean 39	\N	\N	\N
40	sku 40	Product 40	ean 40	\N	\N	\N
41	sku 41	Product 41	ean 41	\N	\N	\N
42	sku 42	Product 42	ean 42	\N	\N	\N
43	sku 43	Product 43	ean 43	\N	\N	\N
44	sku 44	Product 44	ean 44	\N	\N	\N
45	sku 45	Product 45	ean 45	\N	\N	\N
46	sku 46	Product 46	ean 46	\N	\N	\N
47	sku 47	Product 47	ean 47	\N	\N	\N
48	sku 48	Product 48	ean 48	\N	\N	\N
49	sku 49	Product 49	ean 49	\N	\N	\N
50	sku 50	Product 50	ean 50	\N	\N	\N
\.


--
-- Data for Name: sessions; Type: TABLE DATA; Schema: public; Owner: keeper
--

COPY public.sessions (id, "user", deleted_at, deleted_by, deletion_id) FROM stdin;
5	6	\N	\N	\N
6	7	\N	\N	\N
7	8	\N	\N	\N
8	9	\N	\N	\N
9	10	\N	\N	\N
10	11	\N	\N	\N
11	12	\N	\N	\N
12	13	\N	\N	\N
13	14	\N	\N	\N
14	15	\N	\N	\N
15	16	\N	\N	\N
16	17	\N	\N	\N
17	18	\N	\N	\N
18	19	\N	\N	\N
19	20	\N	\N	\N
20	21	\N	\N	\N
21	22	\N	\N	\N
22	23	\N	\N	\N
23	24	\N	\N	\N
24	25	\N	\N	\N
25	26	\N	\N	\N
26	27	\N	\N	\N
27	28	\N	\N	\N
28	29	\N	\N	\N
29	30	\N	\N	\N
30	31	\N	\N	\N
31	32	\N	\N	\N
32	33	\N	\N	\N
33	34	\N	\N	\N
34	35	\N	\N	\N
35	36	\N	\N	\N
36	37	\N	\N	\N
37	38	\N	\N	\N
38	39	\N	\N	\N
39	40	\N	\N	\N
40	41	\N	\N	\N
41	42	\N	\N	\N
42	43	\N	\N	\N
43	44	\N	\N	\N
44	45	\N	\N	\N
45	46	\N	\N	\N
46	47	\N	\N	\N
47	48	\N	\N	\N
48	49	\N	\N	\N
49	50	\N	\N	\N
50	51	\N	\N	\N
51	52	\N	\N	\N
52	53	\N	\N	\N
53	54	\N	\N	\N
54	55	\N	\N	\N
55	56	\N	\N	\N
56	57	\N	\N	\N
57	58	\N	\N	\N
58	59	\N	\N	\N
59	60	\N	\N	\N
60	61	\N	\N	\N
61	62	\N	\N	\N
62	63	\N	\N	\N
63	64	\N	\N	\N
64	65	\N	\N	\N
65	66	\N	\N	\N
66	67	\N	\N	\N
67	68	\N	\N	\N
68	69	\N	\N	\N
69	70	\N	\N	\N
70	71	\N	\N	\N
71	72	\N	\N	\N
72	73	\N	\N	\N
73	74	\N	\N	\N
74	75	\N	\N	\N
75	76	\N	\N	\N
76	77	\N	\N	\N
77	78	\N	\N	\N
78	79	\N	\N	\N
79	80	\N	\N	\N
80	81	\N	\N	\N
81	82	\N	\N	\N
82	83	\N	\N	\N
83	84	\N	\N	\N
84	85	\N	\N	\N
85	86	\N	\N	\N
86	87	\N	\N	\N
87	88	\N	\N	\N
88	89	\N	\N	\N
89	90	\N	\N	\N
90	91	\N	\N	\N
91	92	\N	\N	\N
92	93	\N	\N	\N
93	94	\N	\N	\N
94	95	\N	\N	\N
95	96	\N	\N	\N
96	97	\N	\N	\N
97	98	\N	\N	\N
98	99	\N	\N	\N
99	100	\N	\N	\N
105	6	\N	\N	\N
106	7	\N	\N	\N
107	8	\N	\N	\N
108	9	\N	\N	\N
109	10	\N	\N	\N
110	11	\N	\N	\N
111	12	\N	\N	\N
112	13	\N	\N	\N
113	14	\N	\N	\N
114	15	\N	\N	\N
115	16	\N	\N	\N
116	17	\N	\N	\N
117	18	\N	\N	\N
118	19	\N	\N	\N
119	20	\N	\N	\N
120	21	\N	\N	\N
121	22	\N	\N	\N
122	23	\N	\N	\N
123	24	\N	\N	\N
124	25	\N	\N	\N
125	26	\N	\N	\N
126	27	\N	\N	\N
127	28	\N	\N	\N
128	29	\N	\N	\N
129	30	\N	\N	\N
130	31	\N	\N	\N
131	32	\N	\N	\N
132	33	\N	\N	\N
133	34	\N	\N	\N
134	35	\N	\N	\N
135	36	\N	\N	\N
136	37	\N	\N	\N
137	38	\N	\N	\N
138	39	\N	\N	\N
139	40	\N	\N	\N
140	41	\N	\N	\N
141	42	\N	\N	\N
142	43	\N	\N	\N
143	44	\N	\N	\N
144	45	\N	\N	\N
145	46	\N	\N	\N
146	47	\N	\N	\N
147	48	\N	\N	\N
148	49	\N	\N	\N
149	50	\N	\N	\N
150	51	\N	\N	\N
151	52	\N	\N	\N
152	53	\N	\N	\N
153	54	\N	\N	\N
154	55	\N	\N	\N
155	56	\N	\N	\N
156	57	\N	\N	\N
157	58	\N	\N	\N
158	59	\N	\N	\N
159	60	\N	\N	\N
160	61	\N	\N	\N
161	62	\N	\N	\N
162	63	\N	\N	\N
163	64	\N	\N	\N
164	65	\N	\N	\N
165	66	\N	\N	\N
166	67	\N	\N	\N
167	68	\N	\N	\N
168	69	\N	\N	\N
169	70	\N	\N	\N
170	71	\N	\N	\N
171	72	\N	\N	\N
172	73	\N	\N	\N
173	74	\N	\N	\N
174	75	\N	\N	\N
175	76	\N	\N	\N
176	77	\N	\N	\N
177	78	\N	\N	\N
178	79	\N	\N	\N
179	80	\N	\N	\N
180	81	\N	\N	\N
181	82	\N	\N	\N
182	83	\N	\N	\N
183	84	\N	\N	\N
184	85	\N	\N	\N
185	86	\N	\N	\N
186	87	\N	\N	\N
187	88	\N	\N	\N
188	89	\N	\N	\N
189	90	\N	\N	\N
190	91	\N	\N	\N
191	92	\N	\N	\N
192	93	\N	\N	\N
193	94	\N	\N	\N
194	95	\N	\N	\N
195	96	\N	\N	\N
196	97	\N	\N	\N
197	98	\N	\N	\N
198	99	\N	\N	\N
199	100	\N	\N	\N
100	1	2026-11-30 17:26:26.51498+00	keeper	01a22d7e-5fda-7ae9-b1a4-bdef20400af3
200	1	2026-11-30 17:26:26.51498+00	keeper	01a22d7e-5fda-7ae9-b1a4-bdef20400af3
4	5	2026-11-30 17:26:26.554962+00	keeper	01a22d7e-5ffb-7381-9580-6174548dda34
104	5	2026-11-30 17:26:26.554962+00	keeper	01a22d7e-5ffb-7381-9580-6174548dda34
1	2	2026-11-30 17:26:26.556693+00	keeper	01a22d7e-5ffe-7b22-bc26-29abf6367017
101	2	2026-11-30 17:26:26.556693+00	keeper	01a22d7e-5ffe-7b22-bc26-29abf6367017
2	3	2026-11-30 17:26:26.556693+00	keeper	01a22d7e-5ffe-7b22-bc26-29abf6367017
102	3	2026-11-30 17:26:26.556693+00	keeper	01a22d7e-5ffe-7b22-bc26-29abf6367017
3	4	\N	\N	\N
103	4	\N	\N	\N
\.


--
-- Data for Name: users; Type: TABLE DATA; Schema: public; Owner: keeper
--

COPY public.users (id, email, n, v, created_at, updated_at, created_by, updated_by, version, deleted_at, deleted_by, deletion_id) FROM stdin;
10	user10@example.com	0	\N	\N	\N	\N	\N	1	\N	\N	\N
20	user20@example.com	0	\N	\N	\N	\N	\N	1	\N	\N	\N
30	user30@example.com	0	\N	\N	\N	\N	\N	1	\N	\N	\N
40	user40@example.com	0	\N	\N	\N	\N	\N	1	\N	\N	\N
50	user50@example.com	0	\N	\N	\N	\N	\N	1	\N	\N	\N
60	user60@example.com	0	\N	\N	\N	\N	\N	1	\N	\N	\N
70	user70@example.com	0	\N	\N	\N	\N	\N	1	\N	\N	\N
80	user80@example.com	0	\N	\N	\N	\N	\N	1	\N	\N	\N
90	user90@example.com	0	\N	\N	\N	\N	\N	1	\N	\N	\N
100	user100@example.com	0	\N	\N	\N	\N	\N	1	\N	\N	\N
7	user7@example.com	7	14	\N	\N	\N	\N	1	\N	\N	\N
13	user13@example.com	3	33	\N	\N	\N	\N	1	\N	\N	\N
19	user19@example.com	9	11	\N	\N	\N	\N	1	\N	\N	\N
25	user25@example.com	5	20	\N	\N	\N	\N	1	\N	\N	\N
6	user6@example.com	6	16	\N	\N	\N	\N	1	\N	\N	\N
12	user12@example.com	2	50	\N	\N	\N	\N	1	\N	\N	\N
18	user18@example.com	8	12	\N	\N	\N	\N	1	\N	\N	\N
24	user24@example.com	4	25	\N	\N	\N	\N	1	\N	\N	\N
36	user36@example.com	6	16	\N	\N	\N	\N	1	\N	\N	\N
42	user42@example.com	2	50	\N	\N	\N	\N	1	\N	\N	\N
48	user48@example.com	8	12	\N	\N	\N	\N	1	\N	\N	\N
31	user31@example.com	1	100	\N	\N	\N	\N	1	\N	\N	\N
37	user37@example.com	7	14	\N	\N	\N	\N	1	\N	\N	\N
43	user43@example.com	3	33	\N	\N	\N	\N	1	\N	\N	\N
54	user54@example.com	4	25	\N	\N	\N	\N	1	\N	\N	\N
66	user66@example.com	6	16	\N	\N	\N	\N	1	\N	\N	\N
72	user72@example.com	2	50	\N	\N	\N	\N	1	\N	\N	\N
49	user49@example.com	9	11	\N	\N	\N	\N	1	\N	\N	\N
55	user55@example.com	5	20	\N	\N	\N	\N	1	\N	\N	\N
78	user78@example.com	8	12	\N	\N	\N	\N	1	\N	\N	\N
84	user84@example.com	4	25	\N	\N	\N	\N	1	\N	\N	\N
96	user96@example.com	6	16	\N	\N	\N	\N	1	\N	\N	\N
61	user61@example.com	1	100	\N	\N	\N	\N	1	\N	\N	\N
67	user67@example.com	7	14	\N	\N	\N	\N	1	\N	\N	\N
73	user73@example.com	3	33	\N	\N	\N	\N	1	\N	\N	\N
79	user79@example.com	9	11	\N	\N	\N	\N	1	\N	\N	\N
85	user85@example.com	5	20	\N	\N	\N	\N	1	\N	\N	\N
91	user91@example.com	1	100	\N	\N	\N	\N	1	\N	\N	\N
97	user97@example.com	7	14	\N	\N	\N	\N	1	\N	\N	\N
2	user2@example.com	2	50	\N	2026-11-30 17:26:26.556693+00	\N	keeper	2	2026-11-30 17:26:26.556693+00	keeper	01a22d7e-5ffe-7b22-bc26-29abf6367017
9	user9@example.com	9	11	\N	\N	\N	\N	1	\N	\N	\N
15	user15@example.com	5	20	\N	\N	\N	\N	1	\N	\N	\N
21	user21@example.com	1	100	\N	\N	\N	\N	1	\N	\N	\N
27	user27@example.com	7	14	\N	\N	\N	\N	1	\N	\N	\N
33	user33@example.com	3	33	\N	\N	\N	\N	1	\N	\N	\N
39	user39@example.com	9	11	\N	\N	\N	\N	1	\N	\N	\N
45	user45@example.com	5	20	\N	\N	\N	\N	1	\N	\N	\N
51	user51@example.com	1	100	\N	\N	\N	\N	1	\N	\N	\N
8	user8@example.com	8	12	\N	\N	\N	\N	1	\N	\N	\N
14	user14@example.com	4	25	\N	\N	\N	\N	1	\N	\N	\N
26	user26@example.com	6	16	\N	\N	\N	\N	1	\N	\N	\N
57	user57@example.com	7	14	\N	\N	\N	\N	1	\N	\N	\N
63	user63@example.com	3	33	\N	\N	\N	\N	1	\N	\N	\N
69	user69@example.com	9	11	\N	\N	\N	\N	1	\N	\N	\N
32	user32@example.com	2	50	\N	\N	\N	\N	1	\N	\N	\N
38	user38@example.com	8	12	\N	\N	\N	\N	1	\N	\N	\N
75	user75@example.com	5	20	\N	\N	\N	\N	1	\N	\N	\N
81	user81@example.com	1	100	\N	\N	\N	\N	1	\N	\N	\N
87	user87@example.com	7	14	\N	\N	\N	\N	1	\N	\N	\N
93	user93@example.com	3	33	\N	\N	\N	\N	1	\N	\N	\N
99	user99@example.com	9	11	\N	\N	\N	\N	1	\N	\N	\N
16	user16@example.com	6	16	\N	\N	\N	\N	1	\N	\N	\N
22	user22@example.com	2	50	\N	\N	\N	\N	1	\N	\N	\N
28	user28@example.com	8	12	\N	\N	\N	\N	1	\N	\N	\N
11	user11@example.com	1	100	\N	\N	\N	\N	1	\N	\N	\N
17	user17@example.com	7	14	\N	\N	\N	\N	1	\N	\N	\N
34	user34@example.com	4	25	\N	\N	\N	\N	1	\N	\N	\N
46	user46@example.com	6	16	\N	\N	\N	\N	1	\N	\N	\N
52	user52@example.com	2	50	\N	\N	\N	\N	1	\N	\N	\N
23	user23@example.com	3	33	\N	\N	\N	\N	1	\N	\N	\N
29	user29@example.com	9	11	\N	\N	\N	\N	1	\N	\N	\N
35	user35@example.com	5	20	\N	\N	\N	\N	1	\N	\N	\N
41	user41@example.com	1	100	\N	\N	\N	\N	1	\N	\N	\N
58	user58@example.com	8	12	\N	\N	\N	\N	1	\N	\N	\N
64	user64@example.com	4	25	\N	\N	\N	\N	1	\N	\N	\N
76	user76@example.com	6	16	\N	\N	\N	\N	1	\N	\N	\N
47	user47@example.com	7	14	\N	\N	\N	\N	1	\N	\N	\N
53	user53@example.com	3	33	\N	\N	\N	\N	1	\N	\N	\N
59	user59@example.com	9	11	\N	\N	\N	\N	1	\N	\N	\N
65	user65@example.com	5	20	\N	\N	\N	\N	1	\N	\N	\N
71	user71@example.com	1	100	\N	\N	\N	\N	1	\N	\N	\N
77	user77@example.com	7	14	\N	\N	\N	\N	1	\N	\N	\N
83	user83@example.com	3	33	\N	\N	\N	\N	1	\N	\N	\N
89	user89@example.com	9	11	\N	\N	\N	\N	1	\N	\N	\N
95	user95@example.com	5	20	\N	\N	\N	\N	1	\N	\N	\N
1	user1@example.com	1	100	\N	2026-11-30 17:26:26.51498+00	\N	keeper	2	2026-11-30 17:26:26.51498+00	keeper	01a22d7e-5fda-7ae9-b1a4-bdef20400af3
101	user2@example.com	1	100	2026-11-30 17:26:26.572522+00	2026-11-30 17:26:26.572522+00	keeper	keeper	1	\N	\N	\N
5	user5@example.com	5	20	\N	2026-11-30 17:26:26.554962+00	\N	keeper	2	2026-11-30 17:26:26.554962+00	keeper	01a22d7e-5ffb-7381-9580-6174548dda34
44	user44@example.com	4	25	\N	\N	\N	\N	1	\N	\N	\N
56	user56@example.com	6	16	\N	\N	\N	\N	1	\N	\N	\N
62	user62@example.com	2	50	\N	\N	\N	\N	1	\N	\N	\N
68	user68@example.com	8	12	\N	\N	\N	\N	1	\N	\N	\N
74	user74@example.com	4	25	\N	\N	\N	\N	1	\N	\N	\N
86	user86@example.com	6	16	\N	\N	\N	\N	1	\N	\N	\N
92	user92@example.com	2	50	\N	\N	\N	\N	1	\N	\N	\N
98	user98@example.com	8	12	\N	\N	\N	\N	1	\N	\N	\N
3	user3@example.com	3	33	\N	2026-11-30 17:26:26.556693+00	\N	keeper	2	2026-11-30 17:26:26.556693+00	keeper	01a22d7e-5ffe-7b22-bc26-29abf6367017
82	user82@example.com	2	50	\N	\N	\N	\N	1	\N	\N	\N
88	user88@example.com	8	12	\N	\N	\N	\N	1	\N	\N	\N
94	user94@example.com	4	25	\N	\N	\N	\N	1	\N	\N	\N
4	user4@example.com	4	25	\N	2026-11-30 17:26:26.564914+00	\N	keeper	3	\N	\N	\N
\.


--
-- Data for Name: _backfill_row; Type: TABLE DATA; Schema: upkeep; Owner: postgres
--

COPY upkeep._backfill_row (job, row_key, number, relid, state, sqlstate, message, attempts, last_tried_at, exact) FROM stdin;
01a22d7e-602a-74a7-ab09-dd67b38fb255	{"id": 30}	1	17831	quarantined	22012	division by zero	1	2026-11-30 17:26:26.765748+00	t
01a22d7e-602a-74a7-ab09-dd67b38fb255	{"id": 60}	2	17831	quarantined	22012	division by zero	1	2026-11-30 17:26:26.767539+00	t
01a22d7e-602a-74a7-ab09-dd67b38fb255	{"id": 90}	3	17831	quarantined	22012	division by zero	1	2026-11-30 17:26:26.768473+00	t
01a22d7e-602a-74a7-ab09-dd67b38fb255	{"id": 20}	4	17831	quarantined	22012	division by zero	1	2026-11-30 17:26:26.825526+00	t
01a22d7e-602a-74a7-ab09-dd67b38fb255	{"id": 50}	5	17831	quarantined	22012	division by zero	1	2026-11-30 17:26:26.82729+00	t
01a22d7e-602a-74a7-ab09-dd67b38fb255	{"id": 80}	6	17831	quarantined	22012	division by zero	1	2026-11-30 17:26:26.828627+00	t
01a22d7e-602a-74a7-ab09-dd67b38fb255	{"id": 10}	7	17831	quarantined	22012	division by zero	1	2026-11-30 17:26:26.833959+00	t
01a22d7e-602a-74a7-ab09-dd67b38fb255	{"id": 40}	8	17831	quarantined	22012	division by zero	1	2026-11-30 17:26:26.835542+00	t
01a22d7e-602a-74a7-ab09-dd67b38fb255	{"id": 70}	9	17831	quarantined	22012	division by zero	1	2026-11-30 17:26:26.836956+00	t
01a22d7e-602a-74a7-ab09-dd67b38fb255	{"id": 100}	10	17831	quarantined	22012	division by zero	1	2026-11-30 17:26:26.838788+00	t
\.


--
-- Data for Name: _backfill_table; Type: TABLE DATA; Schema: upkeep; Owner: postgres
--

COPY upkeep._backfill_table (job, number, relid, relname, weight, state, not_before, shared) FROM stdin;
01a22d7e-602a-74a7-ab09-dd67b38fb255	1	17831	public.users	100	done	\N	{"key": ["id"], "held": false, "left": 0, "exact": true, "found": 0, "order": ["pg_catalog.int4 "], "phase": "revisit", "round": 0, "since": 1429, "sweep": 1, "choice": {"held": false, "walk": "blocks", "reason": "in ranges of blocks, reading each page in the order on disk; 6 strides, since the pages have room for 20 % of the new row versions", "strides": 6, "most_blocks": 512, "plain_blocks": 10, "range_blocks": 256, "window_ranges": 20}, "proved": true, "examples": [], "filenode": 17831, "last_key": null, "vacuumed": 0, "after_key": null, "end_block": 2, "rows_left": 10, "next_block": 2, "range_rows": 25856, "after_number": 0, "claimed_rows": 0.0, "rows_estimate": 101.0, "rows_to_change": 101}
01a22d7e-64d6-71ca-a3fd-56c961a4b602	1	17955	public.lines	100	todo	\N	{"key": ["id"], "held": false, "left": 0, "exact": true, "found": 0, "order": ["pg_catalog.int4 "], "phase": "fill", "round": 0, "since": 1711, "sweep": 0, "choice": {"held": false, "walk": "blocks", "reason": "in ranges of blocks, reading each page in the order on disk; one stride, since the pages have room for all new row versions", "strides": 1, "most_blocks": 2048, "plain_blocks": 51, "range_blocks": 51, "window_ranges": 20}, "proved": false, "examples": [], "filenode": 17955, "last_key": null, "vacuumed": 0, "after_key": null, "end_block": 10, "rows_left": null, "next_block": 10, "range_rows": 1014, "after_number": 0, "claimed_rows": 0.0, "rows_estimate": 198.94736842105263, "rows_to_change": 198}
\.


--
-- Data for Name: _backfill_xid; Type: TABLE DATA; Schema: upkeep; Owner: postgres
--

COPY upkeep._backfill_xid (job, xid) FROM stdin;
\.


--
-- Data for Name: _deletion; Type: TABLE DATA; Schema: upkeep; Owner: postgres
--

COPY upkeep._deletion (id, relid, deleted_at, deleted_by, role_name, reason, held, undeleted_at, undeleted_by) FROM stdin;
01a22d7e-5fda-7ae9-b1a4-bdef20400af3	public.users	2026-11-30 17:26:26.51498+00	keeper	keeper	\N	\N	\N	\N
01a22d7e-5ffb-7381-9580-6174548dda34	public.users	2026-11-30 17:26:26.554962+00	keeper	keeper	\N	\N	\N	\N
01a22d7e-5ffe-7b22-bc26-29abf6367017	public.users	2026-11-30 17:26:26.556693+00	keeper	keeper	asked for	a lawsuit	\N	\N
01a22d7e-6003-7af9-9bf5-35c5663b2a56	public.users	2026-11-30 17:26:26.561847+00	keeper	keeper	\N	\N	2026-11-30 17:26:26.564914+00	keeper
01a22d7e-6015-7828-addb-70748d12c132	public.orders_all	2026-11-30 17:26:26.572847+00	keeper	keeper	\N	\N	\N	\N
01a22d7e-601a-7902-90b7-b9606ba24269	public.orders_all	2026-11-30 17:26:26.582263+00	keeper	keeper	\N	\N	\N	\N
\.


--
-- Data for Name: _deletion_cleared; Type: TABLE DATA; Schema: upkeep; Owner: postgres
--

COPY upkeep._deletion_cleared (deletion, relid, conname, key_columns, columns, key, old_values, new_values, exact) FROM stdin;
01a22d7e-5fda-7ae9-b1a4-bdef20400af3	public.invoices	invoices_user_fkey	{id}	{user}	["1"]	["1"]	[null]	t
01a22d7e-5ffb-7381-9580-6174548dda34	public.invoices	invoices_user_fkey	{id}	{user}	["5"]	["5"]	[null]	t
01a22d7e-5ffe-7b22-bc26-29abf6367017	public.invoices	invoices_user_fkey	{id}	{user}	["2"]	["2"]	[null]	t
01a22d7e-5ffe-7b22-bc26-29abf6367017	public.invoices	invoices_user_fkey	{id}	{user}	["3"]	["3"]	[null]	t
\.


--
-- Data for Name: _deletion_table; Type: TABLE DATA; Schema: upkeep; Owner: postgres
--

COPY upkeep._deletion_table (deletion, relid, rows, direct, purged) FROM stdin;
01a22d7e-5fda-7ae9-b1a4-bdef20400af3	public.users	1	t	0
01a22d7e-5fda-7ae9-b1a4-bdef20400af3	public.sessions	2	f	0
01a22d7e-5ffb-7381-9580-6174548dda34	public.users	1	t	0
01a22d7e-5ffb-7381-9580-6174548dda34	public.sessions	2	f	0
01a22d7e-5ffe-7b22-bc26-29abf6367017	public.users	2	t	0
01a22d7e-5ffe-7b22-bc26-29abf6367017	public.sessions	4	f	0
01a22d7e-6003-7af9-9bf5-35c5663b2a56	public.users	1	t	0
01a22d7e-6003-7af9-9bf5-35c5663b2a56	public.sessions	2	f	0
01a22d7e-6015-7828-addb-70748d12c132	public.orders_all	1	t	0
01a22d7e-601a-7902-90b7-b9606ba24269	public.orders_all	1	t	0
\.


--
-- Data for Name: _job; Type: TABLE DATA; Schema: upkeep; Owner: postgres
--

COPY upkeep._job (id, kind, name, owner, owner_name, relid, target, params, session, state, reason, workers, batch_time, retries, not_before, shared, strategy, rows_estimate, units_total, rows_left, error_sqlstate, error_message, error_detail, error_hint, created_at, started_at, finished_at, system_identifier, database, max_replica_lag, max_replica_lag_bytes, max_wal_rate, throttle_work_ratio, run_between, timezone, needs_cleanup, reason_detail, waits_for, parked, answered, parent, place, share, tells_parent, leaves_children) FROM stdin;
01a22d7e-5e7c-7ca3-8e25-38e6487a2846	unique keys	\N	17177	keeper	17831	public.users	{}	{"TimeZone": "Etc/UTC", "DateStyle": "ISO, MDY", "search_path": "\\"$user\\", public", "IntervalStyle": "postgres", "default_text_search_config": "pg_catalog.english", "standard_conforming_strings": "on"}	done	\N	1	\N	0	\N	{}	step by step	0	2	0	\N	\N	\N	\N	2026-11-30 17:26:26.173336+00	2026-11-30 17:26:26.313624+00	2026-11-30 17:26:26.401101+00	7714017010473278943	17176	\N	\N	\N	\N	\N	\N	f	\N	\N	\N	f	\N	\N	\N	f	f
01a22d7e-621c-79d7-aac1-8b572dea471d	command	\N	17177	keeper	\N	SELECT	{"command": "SELECT 1", "retries": 0, "timeout": null, "schedule": "01a22d7e-6219-7385-9551-695c6eb4ffb5", "retry_backoff": 60000}	{"TimeZone": "Etc/UTC", "DateStyle": "ISO, MDY", "search_path": "\\"$user\\", public", "IntervalStyle": "postgres", "default_text_search_config": "pg_catalog.english", "standard_conforming_strings": "on"}	done	\N	1	\N	0	\N	{}	top level	0	1	0	\N	\N	\N	\N	2026-11-30 17:26:27.101459+00	2026-11-30 17:26:27.198678+00	2026-11-30 17:26:27.21668+00	7714017010473278943	17176	\N	\N	\N	\N	\N	\N	f	\N	\N	\N	f	\N	\N	\N	f	f
01a22d7e-602a-74a7-ab09-dd67b38fb255	backfill	\N	17177	keeper	17831	public.users	{"key": ["id"], "columns": ["v"], "options": {"strides": null, "strategy": null, "range_blocks": null, "window_ranges": null, "max_quarantined": null}, "on_error": "quarantine", "condition": "v IS NULL", "assignments": "v = 100 / n", "fingerprint": "71062528beaa798f", "fill_new_rows": false}	{"TimeZone": "Etc/UTC", "DateStyle": "ISO, MDY", "search_path": "\\"$user\\", public", "IntervalStyle": "postgres", "default_text_search_config": "pg_catalog.english", "standard_conforming_strings": "on"}	done	\N	1	\N	0	\N	{"again": null, "closed": false, "rounds": 1, "tables": 1, "weight": 100.0, "started": true, "known_rows": 101.0, "strategies": {"blocks, 6 strides": 1}, "known_weight": 100.0}	blocks, 6 strides	101	100	10	\N	\N	\N	\N	2026-11-30 17:26:26.602683+00	2026-11-30 17:26:26.70852+00	2026-11-30 17:26:26.858624+00	7714017010473278943	17176	\N	\N	\N	\N	\N	\N	f	\N	\N	\N	f	\N	\N	\N	f	f
01a22d7e-62cc-7b89-b0dd-eeca50402a43	backfill	\N	17177	keeper	17860	public.orders_all	{"key": ["id"], "columns": ["what"], "options": {"strides": null, "strategy": null, "range_blocks": null, "window_ranges": null, "max_quarantined": null}, "on_error": "quarantine", "condition": "what <> upper(what)", "assignments": "what = upper(what)", "fingerprint": "3e8ac0b1d17a56a6", "fill_new_rows": false}	{"TimeZone": "Etc/UTC", "DateStyle": "ISO, MDY", "search_path": "\\"$user\\", public", "IntervalStyle": "postgres", "default_text_search_config": "pg_catalog.english", "standard_conforming_strings": "on"}	paused	\N	1	\N	0	\N	{}	\N	\N	\N	\N	\N	\N	\N	\N	2026-11-30 17:26:27.277049+00	\N	\N	7714017010473278943	17176	\N	\N	\N	\N	\N	\N	f	\N	\N	\N	f	\N	\N	\N	f	f
01a22d7e-6175-70c4-b199-8a8c5bd79e4d	command	analyze users	17177	keeper	\N	ANALYZE	{"command": "ANALYZE users"}	{"TimeZone": "Etc/UTC", "DateStyle": "ISO, MDY", "search_path": "\\"$user\\", public", "IntervalStyle": "postgres", "default_text_search_config": "pg_catalog.english", "standard_conforming_strings": "on"}	done	\N	1	\N	0	\N	{}	top level	0	1	0	\N	\N	\N	\N	2026-11-30 17:26:26.93327+00	2026-11-30 17:26:27.057257+00	2026-11-30 17:26:27.06906+00	7714017010473278943	17176	\N	\N	\N	\N	\N	\N	f	\N	\N	\N	f	\N	\N	\N	f	f
01a22d7e-62e3-72c4-9700-8b3fd92f1706	backfill	\N	17177	keeper	17831	public.users	{"key": ["id"], "columns": ["email"], "options": {"strides": null, "strategy": null, "range_blocks": null, "window_ranges": null, "max_quarantined": null}, "on_error": "quarantine", "condition": "email <> lower(email)", "assignments": "email = lower(email)", "fingerprint": "089dab871424d5be", "fill_new_rows": false}	{"TimeZone": "Etc/UTC", "DateStyle": "ISO, MDY", "search_path": "\\"$user\\", public", "IntervalStyle": "postgres", "default_text_search_config": "pg_catalog.english", "standard_conforming_strings": "on"}	canceled	\N	1	\N	0	\N	{}	\N	\N	\N	\N	\N	\N	\N	\N	2026-11-30 17:26:27.299729+00	\N	2026-11-30 17:26:27.306612+00	7714017010473278943	17176	\N	\N	\N	\N	\N	\N	f	\N	\N	\N	f	\N	\N	\N	f	f
01a22d7e-6329-7d26-b4c0-fd4203bc7921	purge	\N	17177	keeper	17831	public.users	{"cutoff": "2026-11-30 17:26:27.314238+00"}	{"TimeZone": "Etc/UTC", "DateStyle": "ISO, MDY", "search_path": "\\"$user\\", public", "IntervalStyle": "postgres", "default_text_search_config": "pg_catalog.english", "standard_conforming_strings": "on"}	paused	\N	1	\N	0	\N	{}	\N	\N	\N	\N	\N	\N	\N	\N	2026-11-30 17:26:27.370167+00	\N	\N	7714017010473278943	17176	\N	\N	\N	\N	\N	\N	f	\N	\N	\N	f	\N	\N	\N	f	f
01a22d7e-6395-7287-bebb-d59de8c48d4c	unique keys	\N	17177	keeper	17923	public.products	{}	{"TimeZone": "Etc/UTC", "DateStyle": "ISO, MDY", "search_path": "\\"$user\\", public", "IntervalStyle": "postgres", "default_text_search_config": "pg_catalog.english", "standard_conforming_strings": "on"}	paused	\N	1	\N	0	\N	{}	step by step	0	6	\N	\N	\N	\N	\N	2026-11-30 17:26:27.477436+00	2026-11-30 17:26:27.599614+00	\N	7714017010473278943	17176	\N	\N	\N	\N	\N	\N	t	\N	\N	\N	f	\N	\N	\N	f	f
01a22d7e-662b-7e08-9c78-b09f86f7eacc	backfill	\N	17177	keeper	17963	public.nights	{"key": ["id"], "columns": ["n"], "options": {"strides": null, "strategy": null, "range_blocks": null, "window_ranges": null, "max_quarantined": null}, "on_error": "quarantine", "condition": "n IS NULL", "assignments": "n = id", "fingerprint": "02a91a0b6b6ba4f5", "fill_new_rows": false}	{"TimeZone": "Etc/UTC", "DateStyle": "ISO, MDY", "search_path": "\\"$user\\", public", "IntervalStyle": "postgres", "default_text_search_config": "pg_catalog.english", "standard_conforming_strings": "on"}	queued	outside its hours 17:24-17:25 (UTC); next start 2026-12-01 17:24	1	\N	0	2026-12-01 17:24:00+00	{}	\N	\N	\N	\N	\N	\N	\N	\N	2026-11-30 17:26:28.140142+00	\N	\N	7714017010473278943	17176	\N	\N	\N	\N	17:24-17:25	UTC	f	\N	\N	clock	f	\N	\N	\N	f	f
01a22d7e-64d6-71ca-a3fd-56c961a4b602	backfill	\N	17177	keeper	17955	public.lines	{"key": ["id"], "columns": ["double"], "options": {"strides": null, "strategy": null, "range_blocks": null, "window_ranges": null, "max_quarantined": null}, "on_error": "quarantine", "condition": "double IS NULL", "assignments": "double = twice(n)", "fingerprint": "0cbedee059ee3067", "fill_new_rows": true}	{"TimeZone": "Etc/UTC", "DateStyle": "ISO, MDY", "search_path": "\\"$user\\", public", "IntervalStyle": "postgres", "default_text_search_config": "pg_catalog.english", "standard_conforming_strings": "on"}	paused	\N	1	10	0	\N	{"again": null, "closed": false, "rounds": 1, "tables": 1, "weight": 100.0, "started": true, "known_rows": 198.0, "strategies": {"blocks": 1}, "known_weight": 100.0}	blocks	198	100	\N	\N	\N	\N	\N	2026-11-30 17:26:27.798363+00	2026-11-30 17:26:27.900661+00	\N	7714017010473278943	17176	\N	\N	\N	\N	\N	\N	t	\N	\N	\N	f	\N	\N	\N	f	f
\.


--
-- Data for Name: _job_event; Type: TABLE DATA; Schema: upkeep; Owner: postgres
--

COPY upkeep._job_event (job, happened_at, event, detail) FROM stdin;
01a22d7e-5e7c-7ca3-8e25-38e6487a2846	2026-11-30 17:26:26.174203+00	queued	\N
01a22d7e-5e7c-7ca3-8e25-38e6487a2846	2026-11-30 17:26:26.314344+00	started	\N
01a22d7e-5e7c-7ca3-8e25-38e6487a2846	2026-11-30 17:26:26.338277+00	building	the successor of users_email_key
01a22d7e-5e7c-7ca3-8e25-38e6487a2846	2026-11-30 17:26:26.400554+00	replaced	users_email_key counts live rows only
01a22d7e-5e7c-7ca3-8e25-38e6487a2846	2026-11-30 17:26:26.401275+00	done	\N
01a22d7e-602a-74a7-ab09-dd67b38fb255	2026-11-30 17:26:26.60318+00	queued	\N
01a22d7e-602a-74a7-ab09-dd67b38fb255	2026-11-30 17:26:26.709302+00	started	\N
01a22d7e-602a-74a7-ab09-dd67b38fb255	2026-11-30 17:26:26.757785+00	strategy	blocks, 6 strides: in ranges of blocks, reading each page in the order on disk; 6 strides, since the pages have room for 20 % of the new row versions
01a22d7e-602a-74a7-ab09-dd67b38fb255	2026-11-30 17:26:26.820069+00	quarantine	3 rows are put aside by now
01a22d7e-602a-74a7-ab09-dd67b38fb255	2026-11-30 17:26:26.829879+00	quarantine	6 rows are put aside by now
01a22d7e-602a-74a7-ab09-dd67b38fb255	2026-11-30 17:26:26.839912+00	quarantine	10 rows are put aside by now
01a22d7e-602a-74a7-ab09-dd67b38fb255	2026-11-30 17:26:26.858972+00	done	10 rows left
01a22d7e-6175-70c4-b199-8a8c5bd79e4d	2026-11-30 17:26:26.933674+00	queued	\N
01a22d7e-6175-70c4-b199-8a8c5bd79e4d	2026-11-30 17:26:27.058006+00	started	\N
01a22d7e-6175-70c4-b199-8a8c5bd79e4d	2026-11-30 17:26:27.068145+00	completed	ANALYZE, 0 rows
01a22d7e-6175-70c4-b199-8a8c5bd79e4d	2026-11-30 17:26:27.069352+00	done	\N
01a22d7e-621c-79d7-aac1-8b572dea471d	2026-11-30 17:26:27.101742+00	queued	by its schedule
01a22d7e-621c-79d7-aac1-8b572dea471d	2026-11-30 17:26:27.203722+00	started	\N
01a22d7e-621c-79d7-aac1-8b572dea471d	2026-11-30 17:26:27.215777+00	completed	SELECT, 1 rows
01a22d7e-621c-79d7-aac1-8b572dea471d	2026-11-30 17:26:27.216944+00	done	\N
01a22d7e-62cc-7b89-b0dd-eeca50402a43	2026-11-30 17:26:27.277353+00	paused	\N
01a22d7e-62e3-72c4-9700-8b3fd92f1706	2026-11-30 17:26:27.300083+00	paused	\N
01a22d7e-62e3-72c4-9700-8b3fd92f1706	2026-11-30 17:26:27.311138+00	canceled	\N
01a22d7e-6329-7d26-b4c0-fd4203bc7921	2026-11-30 17:26:27.370561+00	queued	\N
01a22d7e-6329-7d26-b4c0-fd4203bc7921	2026-11-30 17:26:27.375855+00	paused	\N
01a22d7e-6395-7287-bebb-d59de8c48d4c	2026-11-30 17:26:27.477727+00	queued	\N
01a22d7e-6395-7287-bebb-d59de8c48d4c	2026-11-30 17:26:27.600206+00	started	\N
01a22d7e-6395-7287-bebb-d59de8c48d4c	2026-11-30 17:26:27.622013+00	building	the successor of products_sku_key
01a22d7e-6395-7287-bebb-d59de8c48d4c	2026-11-30 17:26:27.718424+00	replaced	products_sku_key counts live rows only
01a22d7e-6395-7287-bebb-d59de8c48d4c	2026-11-30 17:26:27.722692+00	building	the successor of products_slug
01a22d7e-6395-7287-bebb-d59de8c48d4c	2026-11-30 17:26:27.735009+00	paused	\N
01a22d7e-64d6-71ca-a3fd-56c961a4b602	2026-11-30 17:26:27.79866+00	queued	\N
01a22d7e-64d6-71ca-a3fd-56c961a4b602	2026-11-30 17:26:27.901196+00	started	\N
01a22d7e-64d6-71ca-a3fd-56c961a4b602	2026-11-30 17:26:27.914465+00	trigger created	public.lines
01a22d7e-64d6-71ca-a3fd-56c961a4b602	2026-11-30 17:26:27.95044+00	strategy	blocks: in ranges of blocks, reading each page in the order on disk; one stride, since the pages have room for all new row versions
01a22d7e-64d6-71ca-a3fd-56c961a4b602	2026-11-30 17:26:28.120738+00	paused	\N
01a22d7e-662b-7e08-9c78-b09f86f7eacc	2026-11-30 17:26:28.141265+00	queued	\N
01a22d7e-662b-7e08-9c78-b09f86f7eacc	2026-11-30 17:26:28.188675+00	waiting	outside its hours 17:24-17:25 (UTC); next start 2026-12-01 17:24
\.


--
-- Data for Name: _job_slot; Type: TABLE DATA; Schema: upkeep; Owner: postgres
--

COPY upkeep._job_slot (job, slot, cursor, wait_reason, pid, backend_start, strikes, rows_done, units_done, busy_time, batch_rows, wait_detail, ends, failed_starts, ended_at, tries, wall_time) FROM stdin;
01a22d7e-602a-74a7-ab09-dd67b38fb255	0	\N	\N	\N	2026-11-30 17:26:26.674404+00	0	91	105	137.30732999999998	0	\N	0	0	\N	{"slow": 0, "told": null, "locks": {"rest": {"secs": 0, "nanos": 0}, "told": [], "warm": false, "began": null, "count": 0, "too_long": 0, "not_before": null, "too_long_since": null}, "caught": false, "resources": 0, "contention": 0, "held_until": null}	146.294893
01a22d7e-5e7c-7ca3-8e25-38e6487a2846	0	{"at": 2, "plans": 2}	\N	\N	2026-11-30 17:26:26.275954+00	0	0	2	77.907856	0	\N	0	0	\N	{"slow": 0, "told": null, "locks": {"rest": {"secs": 0, "nanos": 0}, "told": [], "warm": false, "began": null, "count": 0, "too_long": 0, "not_before": null, "too_long_since": null}, "caught": false, "resources": 0, "contention": 0, "held_until": null}	83.84275099999999
01a22d7e-6175-70c4-b199-8a8c5bd79e4d	0	"children"	\N	\N	2026-11-30 17:26:27.014781+00	0	0	1	3.6032530000000005	0	\N	0	0	\N	{"slow": 0, "told": null, "locks": {"rest": {"secs": 0, "nanos": 0}, "told": [], "warm": false, "began": null, "count": 0, "too_long": 0, "not_before": null, "too_long_since": null}, "caught": false, "resources": 0, "contention": 0, "held_until": null}	7.606845
01a22d7e-621c-79d7-aac1-8b572dea471d	0	"children"	\N	\N	2026-11-30 17:26:27.174814+00	0	1	1	7.576399	0	\N	0	0	\N	{"slow": 0, "told": null, "locks": {"rest": {"secs": 0, "nanos": 0}, "told": [], "warm": false, "began": null, "count": 0, "too_long": 0, "not_before": null, "too_long_since": null}, "caught": false, "resources": 0, "contention": 0, "held_until": null}	9.399411
01a22d7e-6395-7287-bebb-d59de8c48d4c	0	{"at": 2, "part": {"tries": 0}, "plans": 1}	\N	\N	2026-11-30 17:26:27.567827+00	0	0	2	103.794322	0	\N	0	0	\N	{"slow": 0, "told": null, "locks": {"rest": {"secs": 0, "nanos": 0}, "told": [], "warm": false, "began": null, "count": 0, "too_long": 0, "not_before": null, "too_long_since": null}, "caught": false, "resources": 0, "contention": 0, "held_until": null}	156.703015
01a22d7e-64d6-71ca-a3fd-56c961a4b602	0	{"last": 10, "most": 2048, "next": 1, "pass": "blocks", "first": 0, "table": 1, "proved": true, "stride": 0, "strides": 1}	\N	\N	2026-11-30 17:26:27.870763+00	0	22	9.5	192.91245400000003	22	\N	0	0	\N	{"slow": 0, "told": null, "locks": {"rest": {"secs": 0, "nanos": 0}, "told": [], "warm": false, "began": null, "count": 0, "too_long": 0, "not_before": null, "too_long_since": null}, "caught": false, "resources": 0, "contention": 0, "held_until": null}	202.59709900000001
\.


--
-- Data for Name: _job_step; Type: TABLE DATA; Schema: upkeep; Owner: postgres
--

COPY upkeep._job_step (job, path, action, statement, relid, schemaname, relname, lock_mode, reversible, params, state, attempts, lock_wait_time, held_time, started_at, finished_at, detail, rows_left) FROM stdin;
01a22d7e-5e7c-7ca3-8e25-38e6487a2846	{0}	build index	CREATE UNIQUE INDEX CONCURRENTLY upkeep_live_01a22d7e5e7c7ca38e2538e6487a2846_17838 ON public.users USING btree (email) WHERE deleted_at IS NULL	17831	public	users	ShareUpdateExclusiveLock	f	{"name": "users_email_key", "until": "built", "successor": "upkeep_live_01a22d7e5e7c7ca38e2538e6487a2846_17838", "indexrelid": 17838}	done	1	0	0	2026-11-30 17:26:26.331159+00	2026-11-30 17:26:26.345124+00	\N	0
01a22d7e-6395-7287-bebb-d59de8c48d4c	{0}	build index	CREATE UNIQUE INDEX CONCURRENTLY upkeep_live_01a22d7e63957287bebbd59de8c48d4c_17930 ON public.products USING btree (sku) WHERE deleted_at IS NULL	17923	public	products	ShareUpdateExclusiveLock	f	{"name": "products_sku_key", "until": "built", "successor": "upkeep_live_01a22d7e63957287bebbd59de8c48d4c_17930", "indexrelid": 17930}	done	1	0	0	2026-11-30 17:26:27.616011+00	2026-11-30 17:26:27.640417+00	\N	0
01a22d7e-5e7c-7ca3-8e25-38e6487a2846	{1}	replace index	ALTER TABLE public.users DROP CONSTRAINT users_email_key; ALTER INDEX public.upkeep_live_01a22d7e5e7c7ca38e2538e6487a2846_17838 RENAME TO users_email_key;	17831	public	users	AccessExclusiveLock	f	{"name": "users_email_key", "until": "replaced", "successor": "upkeep_live_01a22d7e5e7c7ca38e2538e6487a2846_17838", "indexrelid": 17838}	done	1	0.110176	46.429371999999994	2026-11-30 17:26:26.345494+00	2026-11-30 17:26:26.398267+00	\N	0
01a22d7e-6395-7287-bebb-d59de8c48d4c	{3}	replace index	DROP INDEX public.products_slug; ALTER INDEX public.upkeep_live_01a22d7e63957287bebbd59de8c48d4c_17932 RENAME TO products_slug;	17923	public	products	AccessExclusiveLock	f	{"name": "products_slug", "until": "replaced", "successor": "upkeep_live_01a22d7e63957287bebbd59de8c48d4c_17932", "indexrelid": 17932}	planned	0	0	0	\N	\N	\N	\N
01a22d7e-6395-7287-bebb-d59de8c48d4c	{4}	build index	CREATE UNIQUE INDEX CONCURRENTLY upkeep_live_01a22d7e63957287bebbd59de8c48d4c_17933 ON public.products USING btree (ean) WHERE deleted_at IS NULL	17923	public	products	ShareUpdateExclusiveLock	f	{"name": "products_ean_key", "until": "built", "successor": "upkeep_live_01a22d7e63957287bebbd59de8c48d4c_17933", "indexrelid": 17933}	planned	0	0	0	\N	\N	\N	\N
01a22d7e-6395-7287-bebb-d59de8c48d4c	{5}	replace index	ALTER TABLE public.products DROP CONSTRAINT products_ean_key; ALTER INDEX public.upkeep_live_01a22d7e63957287bebbd59de8c48d4c_17933 RENAME TO products_ean_key;	17923	public	products	AccessExclusiveLock	f	{"name": "products_ean_key", "until": "replaced", "successor": "upkeep_live_01a22d7e63957287bebbd59de8c48d4c_17933", "indexrelid": 17933}	planned	0	0	0	\N	\N	\N	\N
01a22d7e-6395-7287-bebb-d59de8c48d4c	{1}	replace index	ALTER TABLE public.products DROP CONSTRAINT products_sku_key; ALTER INDEX public.upkeep_live_01a22d7e63957287bebbd59de8c48d4c_17930 RENAME TO products_sku_key;	17923	public	products	AccessExclusiveLock	f	{"name": "products_sku_key", "until": "replaced", "successor": "upkeep_live_01a22d7e63957287bebbd59de8c48d4c_17930", "indexrelid": 17930}	done	1	0.150021	65.80122200000001	2026-11-30 17:26:27.640808+00	2026-11-30 17:26:27.717625+00	\N	0
01a22d7e-6395-7287-bebb-d59de8c48d4c	{2}	build index	CREATE UNIQUE INDEX CONCURRENTLY upkeep_live_01a22d7e63957287bebbd59de8c48d4c_17932 ON public.products USING btree (public.slug(name)) WHERE deleted_at IS NULL	17923	public	products	ShareUpdateExclusiveLock	f	{"name": "products_slug", "until": "built", "successor": "upkeep_live_01a22d7e63957287bebbd59de8c48d4c_17932", "indexrelid": 17932}	running	1	0	0	2026-11-30 17:26:27.717938+00	\N	\N	\N
\.


--
-- Data for Name: _schedule; Type: TABLE DATA; Schema: upkeep; Owner: postgres
--

COPY upkeep._schedule (id, name, owner, owner_name, schedule, every, timezone, command, target, session, timeout, retries, retry_backoff, catch_up, paused, hold, next_run, based_on, owed, created_at, system_identifier, database) FROM stdin;
01a22d7e-5e15-7835-92dc-6531e7a9bbab	purge public.users	17177	keeper	@daily	\N	Etc/UTC	SELECT upkeep._purge_by_retention('01a22d7e-5e15-7835-92dc-6531e7a9bbab'::pg_catalog.uuid)	SELECT	{"TimeZone": "Etc/UTC", "DateStyle": "ISO, MDY", "search_path": "pg_catalog, pg_temp", "IntervalStyle": "postgres", "default_text_search_config": "pg_catalog.english", "standard_conforming_strings": "on"}	\N	0	60000	f	f	\N	2026-12-01 00:00:00+00	2026-11-30 17:26:26.069516+00	f	2026-11-30 17:26:26.070049+00	7714017010473278943	17176
01a22d7e-6219-7385-9551-695c6eb4ffb5	tick	17177	keeper	1 hour	3600000000	Etc/UTC	SELECT 1	SELECT	{"TimeZone": "Etc/UTC", "DateStyle": "ISO, MDY", "search_path": "\\"$user\\", public", "IntervalStyle": "postgres", "default_text_search_config": "pg_catalog.english", "standard_conforming_strings": "on"}	\N	0	60000	f	f	\N	2026-11-30 18:26:27.097223+00	2026-11-30 17:26:27.097223+00	f	2026-11-30 17:26:27.09747+00	7714017010473278943	17176
\.


--
-- Data for Name: _schedule_run; Type: TABLE DATA; Schema: upkeep; Owner: postgres
--

COPY upkeep._schedule_run (id, schedule, job, due_at, due_times, status, attempts, started_at, finished_at, rows_done, error_sqlstate, error_message, error_detail, error_hint) FROM stdin;
1	01a22d7e-6219-7385-9551-695c6eb4ffb5	01a22d7e-621c-79d7-aac1-8b572dea471d	2026-11-30 17:26:27.100606+00	1	done	1	2026-11-30 17:26:27.198678+00	2026-11-30 17:26:27.21668+00	1	\N	\N	\N	\N
\.


--
-- Data for Name: _soft_delete_table; Type: TABLE DATA; Schema: upkeep; Owner: postgres
--

COPY upkeep._soft_delete_table (relid, name, hide, deleted_at, deleted_by, deletion_id, flag, live_view, deleted_view, retention, on_unmanaged, enabled_at, retention_schedule, row_type, kept_names) FROM stdin;
public.sessions	sessions	none	deleted_at	deleted_by	deletion_id	\N	\N	\N	\N	refuse	2026-11-30 17:26:25.968905+00	\N	public.sessions	{}
public.users	users	live_view	deleted_at	deleted_by	deletion_id	\N	public.users_live	public.users_deleted	1 year	refuse	2026-11-30 17:26:26.042452+00	01a22d7e-5e15-7835-92dc-6531e7a9bbab	public.users	{}
public.orders_all	orders	swap	deleted_at	deleted_by	deletion_id	gone	public.orders	public.orders_deleted	\N	refuse	2026-11-30 17:26:26.122386+00	\N	public.orders_all	{}
public.products	products	live_view	deleted_at	deleted_by	deletion_id	\N	public.products_live	public.products_deleted	\N	refuse	2026-11-30 17:26:27.443088+00	\N	public.products	{}
\.


--
-- Name: _backfill_row_number_seq; Type: SEQUENCE SET; Schema: upkeep; Owner: postgres
--

SELECT pg_catalog.setval('upkeep._backfill_row_number_seq', 10, true);


--
-- Name: _schedule_run_id_seq; Type: SEQUENCE SET; Schema: upkeep; Owner: postgres
--

SELECT pg_catalog.setval('upkeep._schedule_run_id_seq', 1, true);


--
-- Name: invoices invoices_pkey; Type: CONSTRAINT; Schema: public; Owner: keeper
--

ALTER TABLE ONLY public.invoices
    ADD CONSTRAINT invoices_pkey PRIMARY KEY (id);


--
-- Name: lines lines_pkey; Type: CONSTRAINT; Schema: public; Owner: keeper
--

ALTER TABLE ONLY public.lines
    ADD CONSTRAINT lines_pkey PRIMARY KEY (id);


--
-- Name: nights nights_pkey; Type: CONSTRAINT; Schema: public; Owner: keeper
--

ALTER TABLE ONLY public.nights
    ADD CONSTRAINT nights_pkey PRIMARY KEY (id);


--
-- Name: orders_all orders_pkey; Type: CONSTRAINT; Schema: public; Owner: keeper
--

ALTER TABLE ONLY public.orders_all
    ADD CONSTRAINT orders_pkey PRIMARY KEY (id);


--
-- Name: products products_ean_key; Type: CONSTRAINT; Schema: public; Owner: keeper
--

ALTER TABLE ONLY public.products
    ADD CONSTRAINT products_ean_key UNIQUE (ean);


--
-- Name: products products_pkey; Type: CONSTRAINT; Schema: public; Owner: keeper
--

ALTER TABLE ONLY public.products
    ADD CONSTRAINT products_pkey PRIMARY KEY (id);


--
-- Name: sessions sessions_pkey; Type: CONSTRAINT; Schema: public; Owner: keeper
--

ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_pkey PRIMARY KEY (id);


--
-- Name: users users_pkey; Type: CONSTRAINT; Schema: public; Owner: keeper
--

ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (id);


--
-- Name: products_sku_key; Type: INDEX; Schema: public; Owner: keeper
--

CREATE UNIQUE INDEX products_sku_key ON public.products USING btree (sku) WHERE (deleted_at IS NULL);


--
-- Name: products_slug; Type: INDEX; Schema: public; Owner: keeper
--

CREATE UNIQUE INDEX products_slug ON public.products USING btree (public.slug(name));


--
-- Name: upkeep_live_01a22d7e63957287bebbd59de8c48d4c_17932; Type: INDEX; Schema: public; Owner: keeper
--

CREATE UNIQUE INDEX upkeep_live_01a22d7e63957287bebbd59de8c48d4c_17932 ON public.products USING btree (public.slug(name)) WHERE (deleted_at IS NULL);


--
-- Name: users_email_key; Type: INDEX; Schema: public; Owner: keeper
--

CREATE UNIQUE INDEX users_email_key ON public.users USING btree (email) WHERE (deleted_at IS NULL);


--
-- Name: invoices upkeep_live_parent_insert; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE CONSTRAINT TRIGGER upkeep_live_parent_insert AFTER INSERT ON public.invoices NOT DEFERRABLE INITIALLY IMMEDIATE FOR EACH ROW EXECUTE FUNCTION upkeep._soft_delete_live_parent();


--
-- Name: sessions upkeep_live_parent_insert; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE CONSTRAINT TRIGGER upkeep_live_parent_insert AFTER INSERT ON public.sessions NOT DEFERRABLE INITIALLY IMMEDIATE FOR EACH ROW WHEN ((new.deleted_at IS NULL)) EXECUTE FUNCTION upkeep._soft_delete_live_parent();


--
-- Name: invoices upkeep_live_parent_update; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE CONSTRAINT TRIGGER upkeep_live_parent_update AFTER UPDATE ON public.invoices NOT DEFERRABLE INITIALLY IMMEDIATE FOR EACH ROW WHEN (record_image_ne(ROW(old."user"), ROW(new."user"))) EXECUTE FUNCTION upkeep._soft_delete_live_parent();


--
-- Name: sessions upkeep_live_parent_update; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE CONSTRAINT TRIGGER upkeep_live_parent_update AFTER UPDATE ON public.sessions NOT DEFERRABLE INITIALLY IMMEDIATE FOR EACH ROW WHEN (((new.deleted_at IS NULL) AND (record_image_ne(ROW(old."user"), ROW(new."user")) OR ((old.deleted_at IS NOT NULL) AND upkeep._is_by_hand(('public.sessions'::regclass)::oid, new.deletion_id))))) EXECUTE FUNCTION upkeep._soft_delete_live_parent();


--
-- Name: orders upkeep_soft_delete; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete AFTER DELETE ON public.orders FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_view();


--
-- Name: orders_all upkeep_soft_delete; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete AFTER UPDATE ON public.orders_all FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_updated();


--
-- Name: products upkeep_soft_delete; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete AFTER UPDATE ON public.products FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_updated();


--
-- Name: products_live upkeep_soft_delete; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete AFTER DELETE ON public.products_live FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_view();


--
-- Name: sessions upkeep_soft_delete; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete AFTER UPDATE ON public.sessions FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_updated();


--
-- Name: users upkeep_soft_delete; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete AFTER UPDATE ON public.users FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_updated();


--
-- Name: users_live upkeep_soft_delete; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete AFTER DELETE ON public.users_live FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_view();


--
-- Name: orders upkeep_soft_delete_begin; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete_begin BEFORE DELETE ON public.orders FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_view();


--
-- Name: products_live upkeep_soft_delete_begin; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete_begin BEFORE DELETE ON public.products_live FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_view();


--
-- Name: users_live upkeep_soft_delete_begin; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete_begin BEFORE DELETE ON public.users_live FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_view();


--
-- Name: orders_all upkeep_soft_delete_dead_row; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete_dead_row AFTER UPDATE ON public.orders_all FOR EACH ROW WHEN (((old.deleted_at IS NOT NULL) AND (new.deleted_at IS NOT NULL))) EXECUTE FUNCTION upkeep._soft_delete_dead_row();


--
-- Name: products upkeep_soft_delete_dead_row; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete_dead_row AFTER UPDATE ON public.products FOR EACH ROW WHEN (((old.deleted_at IS NOT NULL) AND (new.deleted_at IS NOT NULL))) EXECUTE FUNCTION upkeep._soft_delete_dead_row();


--
-- Name: sessions upkeep_soft_delete_dead_row; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete_dead_row AFTER UPDATE ON public.sessions FOR EACH ROW WHEN (((old.deleted_at IS NOT NULL) AND (new.deleted_at IS NOT NULL))) EXECUTE FUNCTION upkeep._soft_delete_dead_row();


--
-- Name: users upkeep_soft_delete_dead_row; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete_dead_row AFTER UPDATE ON public.users FOR EACH ROW WHEN (((old.deleted_at IS NOT NULL) AND (new.deleted_at IS NOT NULL))) EXECUTE FUNCTION upkeep._soft_delete_dead_row();


--
-- Name: orders_all upkeep_soft_delete_insert; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete_insert AFTER INSERT ON public.orders_all FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_inserted();


--
-- Name: products upkeep_soft_delete_insert; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete_insert AFTER INSERT ON public.products FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_inserted();


--
-- Name: sessions upkeep_soft_delete_insert; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete_insert AFTER INSERT ON public.sessions FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_inserted();


--
-- Name: users upkeep_soft_delete_insert; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete_insert AFTER INSERT ON public.users FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_inserted();


--
-- Name: orders_all upkeep_soft_delete_no_delete; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete_no_delete AFTER DELETE ON public.orders_all REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_guard();


--
-- Name: products upkeep_soft_delete_no_delete; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete_no_delete AFTER DELETE ON public.products REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_guard();


--
-- Name: sessions upkeep_soft_delete_no_delete; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete_no_delete AFTER DELETE ON public.sessions REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_guard();


--
-- Name: users upkeep_soft_delete_no_delete; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete_no_delete AFTER DELETE ON public.users REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_guard();


--
-- Name: orders_all upkeep_soft_delete_no_truncate; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete_no_truncate BEFORE TRUNCATE ON public.orders_all FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_guard();


--
-- Name: products upkeep_soft_delete_no_truncate; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete_no_truncate BEFORE TRUNCATE ON public.products FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_guard();


--
-- Name: sessions upkeep_soft_delete_no_truncate; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete_no_truncate BEFORE TRUNCATE ON public.sessions FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_guard();


--
-- Name: users upkeep_soft_delete_no_truncate; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete_no_truncate BEFORE TRUNCATE ON public.users FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_guard();


--
-- Name: orders upkeep_soft_delete_row; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete_row INSTEAD OF DELETE ON public.orders FOR EACH ROW EXECUTE FUNCTION upkeep._soft_delete_view_row();


--
-- Name: orders_all upkeep_soft_delete_row; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete_row AFTER UPDATE ON public.orders_all FOR EACH ROW WHEN ((((old.deleted_at IS NULL) <> (new.deleted_at IS NULL)) AND upkeep._is_by_hand(('public.orders_all'::regclass)::oid, new.deletion_id))) EXECUTE FUNCTION upkeep._soft_delete_updated_row();


--
-- Name: products upkeep_soft_delete_row; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete_row AFTER UPDATE ON public.products FOR EACH ROW WHEN ((((old.deleted_at IS NULL) <> (new.deleted_at IS NULL)) AND upkeep._is_by_hand(('public.products'::regclass)::oid, new.deletion_id))) EXECUTE FUNCTION upkeep._soft_delete_updated_row();


--
-- Name: products_live upkeep_soft_delete_row; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete_row INSTEAD OF DELETE ON public.products_live FOR EACH ROW EXECUTE FUNCTION upkeep._soft_delete_view_row();


--
-- Name: sessions upkeep_soft_delete_row; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete_row AFTER UPDATE ON public.sessions FOR EACH ROW WHEN ((((old.deleted_at IS NULL) <> (new.deleted_at IS NULL)) AND upkeep._is_by_hand(('public.sessions'::regclass)::oid, new.deletion_id))) EXECUTE FUNCTION upkeep._soft_delete_updated_row();


--
-- Name: users upkeep_soft_delete_row; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete_row AFTER UPDATE ON public.users FOR EACH ROW WHEN ((((old.deleted_at IS NULL) <> (new.deleted_at IS NULL)) AND upkeep._is_by_hand(('public.users'::regclass)::oid, new.deletion_id))) EXECUTE FUNCTION upkeep._soft_delete_updated_row();


--
-- Name: users_live upkeep_soft_delete_row; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete_row INSTEAD OF DELETE ON public.users_live FOR EACH ROW EXECUTE FUNCTION upkeep._soft_delete_view_row();


--
-- Name: lines zz_upkeep_fill_01a22d7e64d671caa3fd56c961a4b602; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER zz_upkeep_fill_01a22d7e64d671caa3fd56c961a4b602 BEFORE INSERT OR UPDATE ON public.lines FOR EACH ROW WHEN (((new.double IS NULL) AND (NOT upkeep._is_filling('01a22d7e-64d6-71ca-a3fd-56c961a4b602'::uuid)))) EXECUTE FUNCTION upkeep._fill_01a22d7e64d671caa3fd56c961a4b602();


--
-- Name: orders_all zz_upkeep_soft_delete_flag; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER zz_upkeep_soft_delete_flag BEFORE INSERT OR UPDATE ON public.orders_all FOR EACH ROW EXECUTE FUNCTION upkeep._soft_delete_flag();


--
-- Name: users zzz_upkeep_row_stamps; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER zzz_upkeep_row_stamps BEFORE INSERT OR UPDATE ON public.users FOR EACH ROW WHEN ((true OR (new.created_at IS NULL) OR (new.updated_at IS NULL) OR (new.created_by IS NULL) OR (new.updated_by IS NULL) OR (new.version IS NULL))) EXECUTE FUNCTION upkeep._stamp_row('created_at', 'updated_at', 'created_by', 'updated_by', 'version', 'clock=transaction', 'mode=incremented');


--
-- Name: invoices invoices_user_fkey; Type: FK CONSTRAINT; Schema: public; Owner: keeper
--

ALTER TABLE ONLY public.invoices
    ADD CONSTRAINT invoices_user_fkey FOREIGN KEY ("user") REFERENCES public.users(id) ON DELETE SET NULL;


--
-- Name: sessions sessions_user_fkey; Type: FK CONSTRAINT; Schema: public; Owner: keeper
--

ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_user_fkey FOREIGN KEY ("user") REFERENCES public.users(id) ON DELETE CASCADE;


--
-- Name: SCHEMA public; Type: ACL; Schema: -; Owner: pg_database_owner
--

GRANT CREATE ON SCHEMA public TO keeper;


--
-- Name: FUNCTION _fill_01a22d7e64d671caa3fd56c961a4b602_values(integer, OUT integer, OUT boolean); Type: ACL; Schema: upkeep; Owner: keeper
--

REVOKE ALL ON FUNCTION upkeep._fill_01a22d7e64d671caa3fd56c961a4b602_values(integer, OUT integer, OUT boolean) FROM PUBLIC;


--
-- Name: FUNCTION _fill_01a22d7e64d671caa3fd56c961a4b602(); Type: ACL; Schema: upkeep; Owner: keeper
--

REVOKE ALL ON FUNCTION upkeep._fill_01a22d7e64d671caa3fd56c961a4b602() FROM PUBLIC;


--
-- Name: FUNCTION run_in_background(command text, name text, retries integer); Type: ACL; Schema: upkeep; Owner: postgres
--

GRANT ALL ON FUNCTION upkeep.run_in_background(command text, name text, retries integer) TO keeper;


--
-- Name: FUNCTION run_now(name text); Type: ACL; Schema: upkeep; Owner: postgres
--

GRANT ALL ON FUNCTION upkeep.run_now(name text) TO keeper;


--
-- Name: FUNCTION schedule(name text, schedule text, command text, timezone text, timeout interval, retries integer, retry_backoff interval, catch_up boolean, paused boolean, if_not_exists boolean); Type: ACL; Schema: upkeep; Owner: postgres
--

GRANT ALL ON FUNCTION upkeep.schedule(name text, schedule text, command text, timezone text, timeout interval, retries integer, retry_backoff interval, catch_up boolean, paused boolean, if_not_exists boolean) TO keeper;


--
-- PostgreSQL database dump complete
--

\unrestrict BtLBaSYQgofWfzbJI7lrl2Z2HczbKDMj2t730sgtIpDtiQsCrWTFFOlZ5HK04U0

