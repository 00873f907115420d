-- Soft delete, children first: a table whose rows would really be deleted with their parent is refused. `hide` is
-- live_view (users_live and users_deleted stand beside users) or swap (users is a view of its live rows).
SELECT upkeep.enable_soft_delete('login_history', :'hide');
SELECT upkeep.enable_soft_delete('user_sessions', :'hide');
SELECT upkeep.enable_soft_delete('users', :'hide');
