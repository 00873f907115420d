--
-- PostgreSQL database dump
--

\restrict oiBHwUpfp4YqX1Br7hiHRgPDHdz9A95xgde56peoHruLC7jP1WxiTakKtj0fbOw

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
7	order 7	t	2026-11-29 13:50:31.040104+00	keeper	01a22792-5489-77df-a081-9535c42415d9
8	order 8	t	2026-11-29 13:50:31.063857+00	keeper	01a22792-549a-7467-8a3a-c84cdd5542f8
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
100	1	2026-11-29 13:50:30.815913+00	keeper	01a22792-53b2-764f-86a6-1c7fc994bd09
200	1	2026-11-29 13:50:30.815913+00	keeper	01a22792-53b2-764f-86a6-1c7fc994bd09
4	5	2026-11-29 13:50:30.927924+00	keeper	01a22792-5410-7f71-a4e9-4e9bc17144a4
104	5	2026-11-29 13:50:30.927924+00	keeper	01a22792-5410-7f71-a4e9-4e9bc17144a4
1	2	2026-11-29 13:50:30.936718+00	keeper	01a22792-541b-7f4a-94c1-fe06ebb421cf
101	2	2026-11-29 13:50:30.936718+00	keeper	01a22792-541b-7f4a-94c1-fe06ebb421cf
2	3	2026-11-29 13:50:30.936718+00	keeper	01a22792-541b-7f4a-94c1-fe06ebb421cf
102	3	2026-11-29 13:50:30.936718+00	keeper	01a22792-541b-7f4a-94c1-fe06ebb421cf
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
2	user2@example.com	2	50	\N	2026-11-29 13:50:30.936718+00	\N	keeper	2	2026-11-29 13:50:30.936718+00	keeper	01a22792-541b-7f4a-94c1-fe06ebb421cf
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
1	user1@example.com	1	100	\N	2026-11-29 13:50:30.815913+00	\N	keeper	2	2026-11-29 13:50:30.815913+00	keeper	01a22792-53b2-764f-86a6-1c7fc994bd09
101	user2@example.com	1	100	2026-11-29 13:50:31.027943+00	2026-11-29 13:50:31.027943+00	keeper	keeper	1	\N	\N	\N
5	user5@example.com	5	20	\N	2026-11-29 13:50:30.927924+00	\N	keeper	2	2026-11-29 13:50:30.927924+00	keeper	01a22792-5410-7f71-a4e9-4e9bc17144a4
44	user44@example.com	4	25	\N	\N	\N	\N	1	\N	\N	\N
56	user56@example.com	6	16	\N	\N	\N	\N	1	\N	\N	\N
62	user62@example.com	2	50	\N	\N	\N	\N	1	\N	\N	\N
68	user68@example.com	8	12	\N	\N	\N	\N	1	\N	\N	\N
74	user74@example.com	4	25	\N	\N	\N	\N	1	\N	\N	\N
86	user86@example.com	6	16	\N	\N	\N	\N	1	\N	\N	\N
92	user92@example.com	2	50	\N	\N	\N	\N	1	\N	\N	\N
98	user98@example.com	8	12	\N	\N	\N	\N	1	\N	\N	\N
3	user3@example.com	3	33	\N	2026-11-29 13:50:30.936718+00	\N	keeper	2	2026-11-29 13:50:30.936718+00	keeper	01a22792-541b-7f4a-94c1-fe06ebb421cf
82	user82@example.com	2	50	\N	\N	\N	\N	1	\N	\N	\N
88	user88@example.com	8	12	\N	\N	\N	\N	1	\N	\N	\N
94	user94@example.com	4	25	\N	\N	\N	\N	1	\N	\N	\N
4	user4@example.com	4	25	\N	2026-11-29 13:50:30.995881+00	\N	keeper	3	\N	\N	\N
\.


--
-- Data for Name: _backfill_row; Type: TABLE DATA; Schema: upkeep; Owner: postgres
--

COPY upkeep._backfill_row (job, row_key, number, relid, state, sqlstate, message, attempts, last_tried_at, exact) FROM stdin;
01a22792-54c9-713f-8884-c829de2ece50	{"id": 30}	1	16997	quarantined	22012	division by zero	1	2026-11-29 13:50:31.521469+00	t
01a22792-54c9-713f-8884-c829de2ece50	{"id": 60}	2	16997	quarantined	22012	division by zero	1	2026-11-29 13:50:31.524421+00	t
01a22792-54c9-713f-8884-c829de2ece50	{"id": 90}	3	16997	quarantined	22012	division by zero	1	2026-11-29 13:50:31.525039+00	t
01a22792-54c9-713f-8884-c829de2ece50	{"id": 20}	4	16997	quarantined	22012	division by zero	1	2026-11-29 13:50:31.718663+00	t
01a22792-54c9-713f-8884-c829de2ece50	{"id": 50}	5	16997	quarantined	22012	division by zero	1	2026-11-29 13:50:31.719502+00	t
01a22792-54c9-713f-8884-c829de2ece50	{"id": 80}	6	16997	quarantined	22012	division by zero	1	2026-11-29 13:50:31.730406+00	t
01a22792-54c9-713f-8884-c829de2ece50	{"id": 10}	7	16997	quarantined	22012	division by zero	1	2026-11-29 13:50:31.746274+00	t
01a22792-54c9-713f-8884-c829de2ece50	{"id": 40}	8	16997	quarantined	22012	division by zero	1	2026-11-29 13:50:31.746986+00	t
01a22792-54c9-713f-8884-c829de2ece50	{"id": 70}	9	16997	quarantined	22012	division by zero	1	2026-11-29 13:50:31.747627+00	t
01a22792-54c9-713f-8884-c829de2ece50	{"id": 100}	10	16997	quarantined	22012	division by zero	1	2026-11-29 13:50:31.760919+00	t
\.


--
-- Data for Name: _backfill_table; Type: TABLE DATA; Schema: upkeep; Owner: postgres
--

COPY upkeep._backfill_table (job, number, relid, relname, weight, state, not_before, shared) FROM stdin;
01a22792-54c9-713f-8884-c829de2ece50	1	16997	public.users	100	done	\N	{"key": ["id"], "held": false, "left": 0, "exact": true, "found": 0, "order": ["pg_catalog.int4 "], "phase": "revisit", "round": 0, "since": 924, "sweep": 1, "choice": {"held": false, "walk": "blocks", "reason": "in ranges of blocks, reading each page in the order on disk; 6 strides, since the pages have room for 20 % of the new row versions", "strides": 6, "most_blocks": 512, "plain_blocks": 10, "range_blocks": 256, "window_ranges": 20}, "proved": true, "examples": [], "filenode": 16997, "last_key": null, "vacuumed": 0, "after_key": null, "end_block": 2, "rows_left": 10, "next_block": 2, "range_rows": 25856, "after_number": 0, "claimed_rows": 0.0, "rows_estimate": 101.0, "rows_to_change": 101}
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
01a22792-53b2-764f-86a6-1c7fc994bd09	public.users	2026-11-29 13:50:30.815913+00	keeper	keeper	\N	\N	\N	\N
01a22792-5410-7f71-a4e9-4e9bc17144a4	public.users	2026-11-29 13:50:30.927924+00	keeper	keeper	\N	\N	\N	\N
01a22792-541b-7f4a-94c1-fe06ebb421cf	public.users	2026-11-29 13:50:30.936718+00	keeper	keeper	asked for	a lawsuit	\N	\N
01a22792-5447-7d9a-aec9-4902fa7061ec	public.users	2026-11-29 13:50:30.969877+00	keeper	keeper	\N	\N	2026-11-29 13:50:30.995881+00	keeper
01a22792-5489-77df-a081-9535c42415d9	public.orders_all	2026-11-29 13:50:31.040104+00	keeper	keeper	\N	\N	\N	\N
01a22792-549a-7467-8a3a-c84cdd5542f8	public.orders_all	2026-11-29 13:50:31.063857+00	keeper	keeper	\N	\N	\N	\N
\.


--
-- Data for Name: _deletion_cleared; Type: TABLE DATA; Schema: upkeep; Owner: postgres
--

COPY upkeep._deletion_cleared (deletion, relid, conname, key_columns, columns, key, old_values, new_values, exact) FROM stdin;
01a22792-53b2-764f-86a6-1c7fc994bd09	public.invoices	invoices_user_fkey	{id}	{user}	["1"]	["1"]	[null]	t
01a22792-5410-7f71-a4e9-4e9bc17144a4	public.invoices	invoices_user_fkey	{id}	{user}	["5"]	["5"]	[null]	t
01a22792-541b-7f4a-94c1-fe06ebb421cf	public.invoices	invoices_user_fkey	{id}	{user}	["2"]	["2"]	[null]	t
01a22792-541b-7f4a-94c1-fe06ebb421cf	public.invoices	invoices_user_fkey	{id}	{user}	["3"]	["3"]	[null]	t
\.


--
-- Data for Name: _deletion_table; Type: TABLE DATA; Schema: upkeep; Owner: postgres
--

COPY upkeep._deletion_table (deletion, relid, rows, direct, purged) FROM stdin;
01a22792-53b2-764f-86a6-1c7fc994bd09	public.users	1	t	0
01a22792-53b2-764f-86a6-1c7fc994bd09	public.sessions	2	f	0
01a22792-5410-7f71-a4e9-4e9bc17144a4	public.users	1	t	0
01a22792-5410-7f71-a4e9-4e9bc17144a4	public.sessions	2	f	0
01a22792-541b-7f4a-94c1-fe06ebb421cf	public.users	2	t	0
01a22792-541b-7f4a-94c1-fe06ebb421cf	public.sessions	4	f	0
01a22792-5447-7d9a-aec9-4902fa7061ec	public.users	1	t	0
01a22792-5447-7d9a-aec9-4902fa7061ec	public.sessions	2	f	0
01a22792-5489-77df-a081-9535c42415d9	public.orders_all	1	t	0
01a22792-549a-7467-8a3a-c84cdd5542f8	public.orders_all	1	t	0
\.


--
-- Data for Name: _job; Type: TABLE DATA; Schema: upkeep; Owner: postgres
--

COPY upkeep._job (id, kind, name, owner, owner_name, relid, target, params, session, state, reason, workers, batch_time, retries, not_before, shared, strategy, rows_estimate, units_total, rows_left, error_sqlstate, error_message, error_detail, error_hint, created_at, started_at, finished_at, system_identifier, database, max_replica_lag, max_replica_lag_bytes, max_wal_rate, throttle_work_ratio, run_between, timezone, needs_cleanup, reason_detail, waits_for) FROM stdin;
01a22792-5b7a-710a-9ef4-97058913518b	command	\N	16385	keeper	\N	SELECT	{"command": "SELECT 1", "retries": 0, "timeout": null, "schedule": "01a22792-5b6a-71b2-ad32-b88201e8b102", "retry_backoff": 60000}	{"TimeZone": "Etc/UTC", "DateStyle": "ISO, MDY", "search_path": "\\"$user\\", public", "IntervalStyle": "postgres", "default_text_search_config": "pg_catalog.english"}	done	\N	1	\N	0	\N	{}	top level	0	1	0	\N	\N	\N	\N	2026-11-29 13:50:32.826514+00	2026-11-29 13:50:33.014008+00	2026-11-29 13:50:33.037907+00	7713590428680980388	16384	\N	\N	\N	\N	\N	\N	f	\N	\N
01a22792-54c9-713f-8884-c829de2ece50	backfill	\N	16385	keeper	16997	public.users	{"key": ["id"], "columns": ["v"], "options": {"strides": null, "strategy": null, "range_blocks": null, "window_ranges": null, "max_quarantined": null}, "on_error": "quarantine", "condition": "v IS NULL", "assignments": "v = 100 / n", "fingerprint": "dd5a5e097e679249", "fill_new_rows": false}	{"TimeZone": "Etc/UTC", "DateStyle": "ISO, MDY", "search_path": "\\"$user\\", public", "IntervalStyle": "postgres", "default_text_search_config": "pg_catalog.english"}	done	\N	1	\N	0	\N	{"again": null, "closed": false, "rounds": 1, "tables": 1, "weight": 100.0, "started": true, "known_rows": 101.0, "strategies": {"blocks, 6 strides": 1}, "known_weight": 100.0}	blocks, 6 strides	101	100	10	\N	\N	\N	\N	2026-11-29 13:50:31.113296+00	2026-11-29 13:50:31.337085+00	2026-11-29 13:50:31.823558+00	7713590428680980388	16384	\N	\N	\N	\N	\N	\N	f	\N	\N
01a22792-50e1-79e3-9feb-bddab04b7f07	unique keys	\N	16385	keeper	16997	public.users	{}	{"TimeZone": "Etc/UTC", "DateStyle": "ISO, MDY", "search_path": "\\"$user\\", public", "IntervalStyle": "postgres", "default_text_search_config": "pg_catalog.english"}	done	\N	1	\N	0	\N	{}	one index after the other	0	1	0	\N	\N	\N	\N	2026-11-29 13:50:30.113956+00	2026-11-29 13:50:30.346436+00	2026-11-29 13:50:30.635253+00	7713590428680980388	16384	\N	\N	\N	\N	\N	\N	f	\N	\N
01a22792-5cf2-73b2-8093-33c018964ef9	backfill	\N	16385	keeper	17026	public.orders_all	{"key": ["id"], "columns": ["what"], "options": {"strides": null, "strategy": null, "range_blocks": null, "window_ranges": null, "max_quarantined": null}, "on_error": "quarantine", "condition": "what <> upper(what)", "assignments": "what = upper(what)", "fingerprint": "9764ac931e8bfc0c", "fill_new_rows": false}	{"TimeZone": "Etc/UTC", "DateStyle": "ISO, MDY", "search_path": "\\"$user\\", public", "IntervalStyle": "postgres", "default_text_search_config": "pg_catalog.english"}	paused	\N	1	\N	0	\N	{}	\N	\N	\N	\N	\N	\N	\N	\N	2026-11-29 13:50:33.202435+00	\N	\N	7713590428680980388	16384	\N	\N	\N	\N	\N	\N	f	\N	\N
01a22792-5a05-7ba1-8733-9e7cb1f4610a	command	analyze users	16385	keeper	\N	ANALYZE	{"command": "ANALYZE users"}	{"TimeZone": "Etc/UTC", "DateStyle": "ISO, MDY", "search_path": "\\"$user\\", public", "IntervalStyle": "postgres", "default_text_search_config": "pg_catalog.english"}	done	\N	1	\N	0	\N	{}	top level	0	1	0	\N	\N	\N	\N	2026-11-29 13:50:32.453906+00	2026-11-29 13:50:32.624165+00	2026-11-29 13:50:32.673045+00	7713590428680980388	16384	\N	\N	\N	\N	\N	\N	f	\N	\N
01a22792-5d1b-7fce-9d5a-2614b85de1db	backfill	\N	16385	keeper	16997	public.users	{"key": ["id"], "columns": ["email"], "options": {"strides": null, "strategy": null, "range_blocks": null, "window_ranges": null, "max_quarantined": null}, "on_error": "quarantine", "condition": "email <> lower(email)", "assignments": "email = lower(email)", "fingerprint": "9bd7a47b67427aac", "fill_new_rows": false}	{"TimeZone": "Etc/UTC", "DateStyle": "ISO, MDY", "search_path": "\\"$user\\", public", "IntervalStyle": "postgres", "default_text_search_config": "pg_catalog.english"}	canceled	\N	1	\N	0	\N	{}	\N	\N	\N	\N	\N	\N	\N	\N	2026-11-29 13:50:33.244224+00	\N	2026-11-29 13:50:33.266476+00	7713590428680980388	16384	\N	\N	\N	\N	\N	\N	f	\N	\N
01a22792-5d99-74b0-98f4-6ee179ffcdd6	purge	\N	16385	keeper	16997	public.users	{"cutoff": "2026-11-29 13:50:33.287001+00"}	{"TimeZone": "Etc/UTC", "DateStyle": "ISO, MDY", "search_path": "\\"$user\\", public", "IntervalStyle": "postgres", "default_text_search_config": "pg_catalog.english"}	paused	\N	1	\N	0	\N	{}	\N	\N	\N	\N	\N	\N	\N	\N	2026-11-29 13:50:33.369486+00	\N	\N	7713590428680980388	16384	\N	\N	\N	\N	\N	\N	f	\N	\N
\.


--
-- Data for Name: _job_event; Type: TABLE DATA; Schema: upkeep; Owner: postgres
--

COPY upkeep._job_event (job, happened_at, event, detail) FROM stdin;
01a22792-50e1-79e3-9feb-bddab04b7f07	2026-11-29 13:50:30.114477+00	queued	\N
01a22792-50e1-79e3-9feb-bddab04b7f07	2026-11-29 13:50:30.346804+00	started	\N
01a22792-50e1-79e3-9feb-bddab04b7f07	2026-11-29 13:50:30.397983+00	building	the successor of users_email_key
01a22792-50e1-79e3-9feb-bddab04b7f07	2026-11-29 13:50:30.616229+00	replaced	users_email_key counts live rows only
01a22792-50e1-79e3-9feb-bddab04b7f07	2026-11-29 13:50:30.635378+00	done	\N
01a22792-54c9-713f-8884-c829de2ece50	2026-11-29 13:50:31.113441+00	queued	\N
01a22792-54c9-713f-8884-c829de2ece50	2026-11-29 13:50:31.337466+00	started	\N
01a22792-54c9-713f-8884-c829de2ece50	2026-11-29 13:50:31.488477+00	strategy	blocks, 6 strides: in ranges of blocks, reading each page in the order on disk; 6 strides, since the pages have room for 20 % of the new row versions
01a22792-54c9-713f-8884-c829de2ece50	2026-11-29 13:50:31.695264+00	quarantine	3 rows are put aside by now
01a22792-54c9-713f-8884-c829de2ece50	2026-11-29 13:50:31.731191+00	quarantine	6 rows are put aside by now
01a22792-54c9-713f-8884-c829de2ece50	2026-11-29 13:50:31.761512+00	quarantine	10 rows are put aside by now
01a22792-54c9-713f-8884-c829de2ece50	2026-11-29 13:50:31.832348+00	done	10 rows left
01a22792-5a05-7ba1-8733-9e7cb1f4610a	2026-11-29 13:50:32.454043+00	queued	\N
01a22792-5a05-7ba1-8733-9e7cb1f4610a	2026-11-29 13:50:32.624564+00	started	\N
01a22792-5a05-7ba1-8733-9e7cb1f4610a	2026-11-29 13:50:32.672551+00	completed	ANALYZE, 0 rows
01a22792-5a05-7ba1-8733-9e7cb1f4610a	2026-11-29 13:50:32.673163+00	done	\N
01a22792-5b7a-710a-9ef4-97058913518b	2026-11-29 13:50:32.826662+00	queued	by its schedule
01a22792-5b7a-710a-9ef4-97058913518b	2026-11-29 13:50:33.014511+00	started	\N
01a22792-5b7a-710a-9ef4-97058913518b	2026-11-29 13:50:33.037453+00	completed	SELECT, 1 rows
01a22792-5b7a-710a-9ef4-97058913518b	2026-11-29 13:50:33.038024+00	done	\N
01a22792-5cf2-73b2-8093-33c018964ef9	2026-11-29 13:50:33.202592+00	paused	\N
01a22792-5d1b-7fce-9d5a-2614b85de1db	2026-11-29 13:50:33.244378+00	paused	\N
01a22792-5d1b-7fce-9d5a-2614b85de1db	2026-11-29 13:50:33.266612+00	canceled	\N
01a22792-5d99-74b0-98f4-6ee179ffcdd6	2026-11-29 13:50:33.369621+00	queued	\N
01a22792-5d99-74b0-98f4-6ee179ffcdd6	2026-11-29 13:50:33.382089+00	paused	\N
\.


--
-- Data for Name: _job_slot; Type: TABLE DATA; Schema: upkeep; Owner: postgres
--

COPY upkeep._job_slot (job, slot, cursor, wait_reason, pid, backend_start, strikes, rows_done, units_done, busy_time, batch_rows, wait_detail, ends, failed_starts, ended_at, tries, wall_time) FROM stdin;
01a22792-5a05-7ba1-8733-9e7cb1f4610a	0	"started"	\N	\N	2026-11-29 13:50:32.568616+00	0	0	1	1.538284	0	\N	0	0	\N	{"slow": 0, "told": null, "caught": false, "resources": 0, "contention": 0}	27.990565
01a22792-54c9-713f-8884-c829de2ece50	0	\N	\N	\N	2026-11-29 13:50:31.284687+00	0	91	105	345.71499499999993	0	\N	0	0	\N	{"slow": 0, "told": null, "caught": false, "resources": 0, "contention": 0}	469.523767
01a22792-50e1-79e3-9feb-bddab04b7f07	0	{"done": 1, "tries": 0, "building": null}	\N	\N	2026-11-29 13:50:30.288638+00	0	0	1	187.086162	0	\N	0	0	\N	{"slow": 0, "told": null, "caught": false, "resources": 0, "contention": 0}	266.604359
01a22792-5b7a-710a-9ef4-97058913518b	0	"started"	\N	\N	2026-11-29 13:50:32.960602+00	0	1	1	1.5809579999999999	0	\N	0	0	\N	{"slow": 0, "told": null, "caught": false, "resources": 0, "contention": 0}	12.066212
\.


--
-- Data for Name: _schedule; Type: TABLE DATA; Schema: upkeep; Owner: postgres
--

COPY upkeep._schedule (id, name, owner, owner_name, schedule, every, timezone, command, target, session, timeout, retries, retry_backoff, catch_up, paused, hold, next_run, based_on, owed, created_at, system_identifier, database) FROM stdin;
01a22792-5000-78f1-b4f8-3f2a672ae851	purge public.users	16385	keeper	@daily	\N	Etc/UTC	SELECT upkeep._purge_by_retention('01a22792-5000-78f1-b4f8-3f2a672ae851'::pg_catalog.uuid)	SELECT	{"TimeZone": "Etc/UTC", "DateStyle": "ISO, MDY", "search_path": "pg_catalog, pg_temp", "IntervalStyle": "postgres", "default_text_search_config": "pg_catalog.english"}	\N	0	60000	f	f	\N	2026-11-30 00:00:00+00	2026-11-29 13:50:29.888561+00	f	2026-11-29 13:50:29.888976+00	7713590428680980388	16384
01a22792-5b6a-71b2-ad32-b88201e8b102	tick	16385	keeper	1 hour	3600000000	Etc/UTC	SELECT 1	SELECT	{"TimeZone": "Etc/UTC", "DateStyle": "ISO, MDY", "search_path": "\\"$user\\", public", "IntervalStyle": "postgres", "default_text_search_config": "pg_catalog.english"}	\N	0	60000	f	f	\N	2026-11-29 14:50:32.810109+00	2026-11-29 13:50:32.810109+00	f	2026-11-29 13:50:32.810288+00	7713590428680980388	16384
\.


--
-- Data for Name: _schedule_run; Type: TABLE DATA; Schema: upkeep; Owner: postgres
--

COPY upkeep._schedule_run (id, schedule, job, due_at, due_times, status, attempts, started_at, finished_at, rows_done, error_sqlstate, error_message, error_detail, error_hint) FROM stdin;
1	01a22792-5b6a-71b2-ad32-b88201e8b102	01a22792-5b7a-710a-9ef4-97058913518b	2026-11-29 13:50:32.826052+00	1	done	1	2026-11-29 13:50:33.014008+00	2026-11-29 13:50:33.037907+00	1	\N	\N	\N	\N
\.


--
-- Data for Name: _soft_delete_table; Type: TABLE DATA; Schema: upkeep; Owner: postgres
--

COPY upkeep._soft_delete_table (relid, name, hide, deleted_at, deleted_by, deletion_id, flag, live_view, deleted_view, retention, on_unmanaged, enabled_at, retention_schedule, row_type, kept_names) FROM stdin;
public.sessions	sessions	none	deleted_at	deleted_by	deletion_id	\N	\N	\N	\N	refuse	2026-11-29 13:50:29.585349+00	\N	public.sessions	{}
public.users	users	live_view	deleted_at	deleted_by	deletion_id	\N	public.users_live	public.users_deleted	1 year	refuse	2026-11-29 13:50:29.803071+00	01a22792-5000-78f1-b4f8-3f2a672ae851	public.users	{}
public.orders_all	orders	swap	deleted_at	deleted_by	deletion_id	gone	public.orders	public.orders_deleted	\N	refuse	2026-11-29 13:50:29.998118+00	\N	public.orders_all	{}
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
-- Name: orders_all orders_pkey; Type: CONSTRAINT; Schema: public; Owner: keeper
--

ALTER TABLE ONLY public.orders_all
    ADD CONSTRAINT orders_pkey PRIMARY KEY (id);


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
-- Name: users_live upkeep_soft_delete_begin; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete_begin BEFORE DELETE ON public.users_live FOR EACH STATEMENT EXECUTE FUNCTION upkeep._soft_delete_view();


--
-- Name: orders_all upkeep_soft_delete_dead_row; Type: TRIGGER; Schema: public; Owner: keeper
--

CREATE TRIGGER upkeep_soft_delete_dead_row AFTER UPDATE ON public.orders_all FOR EACH ROW WHEN (((old.deleted_at IS NOT NULL) AND (new.deleted_at IS NOT NULL))) EXECUTE FUNCTION upkeep._soft_delete_dead_row();


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

\unrestrict oiBHwUpfp4YqX1Br7hiHRgPDHdz9A95xgde56peoHruLC7jP1WxiTakKtj0fbOw

